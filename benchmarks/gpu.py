"""How fast fit, transform and sample are on a GPU, and on the CPU beside it.

Tables of 20 columns from 10,000 to 1,000,000 rows with three posteriors, images with a wide
residual network and with a hierarchical model: rows or images per second, floating point operations
per second and peak memory, and the same at a tenth of the size on the CPU. Each stage is a process
of its own with a limit in seconds, and every number is written as soon as it is known: what a limit
cuts off is missing, and nothing else. The whole ends within eight minutes. ``--quick`` takes small
tables and the CPU, for a minute and a half.
"""

import argparse
import json
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import append_record, machine, read_records
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from sklearn_qavi import QAVIImputer, QAVIInpainter
from sklearn_qavi.datasets import make_missing
from sklearn_qavi.generative import HierarchicalVAE, TabularVAE, Training, WideResNetVAE

COLUMNS, RATE, DRAWS, IMAGE = 20, 0.2, 20, 28
TABLE_ROWS = (10_000, 100_000, 1_000_000)
TRAINING_ROWS = 100_000
PEAK_TFLOPS = {"H100": 67.0, "H200": 67.0, "A100": 19.5, "L4": 30.3, "V100": 15.7}
"""Single precision without tensor cores, as the vendor's data sheets say, in 1e12 per second."""


@dataclass(frozen=True)
class Stage:
    """What one process measures, and how long it may take."""

    name: str
    device: str
    seconds: float
    sizes: tuple[int, ...]


def stages(device: str, quick: bool) -> list[Stage]:
    """Return what is measured, the most wanted first; limits add up to less than eight minutes."""
    if quick:
        tables = [Stage(name, "cpu", 40, (60,)) for name in ("gaussian", "mixture", "flow")]
        return [*tables, Stage("wide_resnet", "cpu", 40, (4,)), Stage("layers", "cpu", 40, (2,))]
    tenth = tuple(n // 10 for n in TABLE_ROWS)
    return [
        Stage("gaussian", device, 90, TABLE_ROWS),
        Stage("mixture", device, 60, TABLE_ROWS),
        Stage("flow", device, 60, TABLE_ROWS),
        Stage("wide_resnet", device, 45, (64, 512)),
        Stage("layers", device, 45, (16, 64)),
        Stage("gaussian", "cpu", 45, tenth),
        Stage("mixture", "cpu", 30, tenth),
        Stage("flow", "cpu", 30, tenth),
        Stage("wide_resnet", "cpu", 25, (6, 51)),
        Stage("layers", "cpu", 25, (2, 6)),
    ]


def table(n_rows: int) -> NDArray[np.float64]:
    """Return rows of five factors, bent, with noise."""
    rng = np.random.default_rng(0)
    factors = rng.standard_normal((n_rows, 5))
    slopes = rng.standard_normal((5, COLUMNS))
    return np.tanh(factors @ slopes) + 0.3 * rng.standard_normal((n_rows, COLUMNS))


def images(n: int) -> NDArray[np.float64]:
    """Return pictures of one bright ellipse each, from 0 to 1."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:IMAGE, :IMAGE] / IMAGE
    centre, width = rng.uniform(0.3, 0.7, (2, n, 1, 1)), rng.uniform(0.05, 0.3, (2, n, 1, 1))
    distance = ((y - centre[0]) / width[0]) ** 2 + ((x - centre[1]) / width[1]) ** 2
    return np.exp(-distance)


def timed(record: dict[str, Any], n: int, function: Any) -> dict[str, Any]:
    """Return a record with seconds, things per second and the peak of the device's memory."""
    is_cuda = record["device"].startswith("cuda")
    if is_cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    function()
    if is_cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    record = {**record, "n": n, "seconds": seconds, "per_second": n / seconds}
    if is_cuda:
        record["gib"] = torch.cuda.max_memory_allocated() / 2**30
    return record


def with_flops(record: dict[str, Any], flops_per_row: float) -> dict[str, Any]:
    """Return a record with the rate of operations and its share of the peak, if that is known."""
    rate = flops_per_row * record["per_second"] / 1e12
    name = torch.cuda.get_device_name() if record["device"].startswith("cuda") else ""
    peak = next((peak for key, peak in PEAK_TFLOPS.items() if key in name), None)
    return {**record, "tflops": rate, "share_of_peak": None if peak is None else rate / peak}


def flops_of_row(imputer: QAVIImputer, X: NDArray[np.float64]) -> float:
    """Return the operations that the decoders' products take for a row, without what is padded.

    As many as the evaluations that rows take, each with a gradient by the code.
    """
    evaluations = imputer.infer(X).n_evaluations.mean()
    total = 0.0
    for decoder in imputer.generative_model_.decoders_:
        with FlopCounterMode(display=False) as counter:
            decoder.decode(torch.zeros(1, decoder.latent_dim))
        total += 2.0 * counter.get_total_flops() * evaluations
    return total


def measure_table(stage: Stage, out: Path, quick: bool) -> None:
    """Measure fit once, then transform and sample for more and more rows."""
    base = {"stage": stage.name, "device": stage.device, "unit": "rows"}
    n_training = min(TRAINING_ROWS, max(max(stage.sizes), 100))
    X, _ = make_missing(table(max(n_training, *stage.sizes)), rate=RATE, random_state=0)
    steps = 5 if quick else 300
    model = TabularVAE(likelihood="student_t", n_decoders=1, max_steps=steps, random_state=0)
    imputer = QAVIImputer(
        generative_model=model, posterior=stage.name, device=stage.device, random_state=0
    )
    append_record(
        out,
        timed({**base, "what": "fit"}, n_training, lambda: imputer.fit(X[:n_training])),
    )
    flops = flops_of_row(imputer, X[: min(64, stage.sizes[0])])  # warms up as well
    for n in stage.sizes:
        for what, function in (
            ("transform", lambda n=n: imputer.transform(X[:n])),
            (f"sample(n={DRAWS})", lambda n=n: imputer.sample(X[:n], n=DRAWS)),
        ):
            record = timed({**base, "what": what}, n, function)
            if what == "transform":
                record = with_flops(record, flops)
            append_record(out, record)


def measure_images(stage: Stage, out: Path, quick: bool) -> None:
    """Measure transform of images of MNIST's size with networks of the published sizes."""
    base = {"stage": stage.name, "device": stage.device, "unit": "images"}
    training = Training(steps_per_epoch=2 if quick else 50)
    epochs = 1 if quick else 2
    classes = {"wide_resnet": WideResNetVAE, "layers": HierarchicalVAE}
    small: dict[str, Any] = {"width": 8} if quick and stage.name == "wide_resnet" else {}
    model = classes[stage.name](max_epochs=epochs, training=training, random_state=0, **small)
    inpainter = QAVIInpainter(
        generative_model=model, device=stage.device, random_state=0, max_iter=4 if quick else None
    )
    X = images(max(256 if not quick else 16, *stage.sizes))
    incomplete, _ = make_missing(X.reshape(len(X), -1), rate=0.5, random_state=0)
    incomplete = incomplete.reshape(X.shape)
    n_training = min(len(X), 256)
    append_record(
        out, timed({**base, "what": "fit"}, n_training, lambda: inpainter.fit(X[:n_training]))
    )
    for n in stage.sizes:
        record = {**base, "what": "transform"}
        append_record(out, timed(record, n, lambda n=n: inpainter.transform(incomplete[:n])))


def run_stage(stage: Stage, args: argparse.Namespace) -> None:
    """Run a stage in a process of its own, which is ended at its limit."""
    command = [sys.executable, __file__, "--stage", json.dumps(vars(stage)), "--out", str(args.out)]
    start = time.monotonic()
    status, note = "done", ""
    try:
        done = subprocess.run(
            [*command, *["--quick"] * args.quick],
            timeout=stage.seconds,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            status, note = "failed", done.stderr.strip().splitlines()[-1][:200]
    except subprocess.TimeoutExpired:
        status = "cut off"
    record = {"stage": stage.name, "device": stage.device, "status": status, "note": note}
    append_record(args.out, {**record, "seconds": time.monotonic() - start})


def print_table(records: list[dict[str, Any]]) -> None:
    """Print what was measured, one line for each number."""
    columns = f"{'model':<12}{'device':<8}{'what':<14}{'n':>9}{'seconds':>9}{'per s':>10}"
    print(f"{columns}{'TFLOP/s':>9}{'of peak':>9}{'GiB':>7}")
    for r in records:
        line = f"{r['stage']:<12}{r['device']:<8}"
        if "status" in r:
            if r["status"] != "done":
                print(f"{line}{r['status']} after {r['seconds']:.0f} s {r['note']}")
            continue
        line += f"{r['what']:<14}{r['n']:>9,}{r['seconds']:>9.2f}{r['per_second']:>10,.1f}"
        tflops, share, gib = r.get("tflops"), r.get("share_of_peak"), r.get("gib")
        line += f"{'-' if tflops is None else f'{tflops:.3f}':>9}"
        line += f"{'-' if share is None else f'{share:.1%}':>9}"
        print(line + f"{'-' if gib is None else f'{gib:.1f}':>7}")


def main() -> None:
    """Measure all stages, or the one that this process was started for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=Path("gpu.jsonl"), help="one JSON object a line"
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="small, on the CPU")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stage:
        warnings.simplefilter("ignore")
        stage = Stage(**json.loads(args.stage))
        measure = measure_images if stage.name in ("wide_resnet", "layers") else measure_table
        measure(stage, args.out, args.quick)
        return
    if not args.quick and not torch.cuda.is_available():
        sys.exit("There is no GPU here; --quick measures small things on the CPU.")
    args.out.unlink(missing_ok=True)
    gpu = None if args.quick else torch.cuda.get_device_name()
    about = {**machine(), "torch": torch.__version__, "gpu": gpu}
    append_record(args.out, {"about": about})
    for stage in stages(args.device, args.quick):
        run_stage(stage, args)
    print(json.dumps(about))
    print_table([record for record in read_records(args.out) if "stage" in record])


if __name__ == "__main__":
    main()
