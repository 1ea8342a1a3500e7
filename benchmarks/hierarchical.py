"""A hierarchical VAE of MNIST digits: QAVI beside amortised rivals, the warm-up, and costs.

`methods`: QAVI, posterior matching and VAEAC complete the same test digits with strokes and boxes
missing, the distribution that the rivals were trained on, and with halves missing, which they were
not. `warmup`: the bound against steps with and without the balanced warm-up, by the paper's
optimiser and by ours. `cost`: seconds and memory of a step against image size and draws.
`questions`: what each question to an inpainter costs with untrained networks, each in a process of
its own: peak memory, processor seconds, and images that went down the decoder's layers. Prints and
saves numbers, asserts nothing.
"""

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from _common import append_record, machine, read_records
from images import Classifier, Digits, digest, load_digits, rmse
from numpy.typing import NDArray

from sklearn_qavi import QAVIInpainter, __version__, inpaint
from sklearn_qavi.baselines import HierarchicalPosteriorMatching, HierarchicalVAEAC
from sklearn_qavi.datasets import make_image_masks, write_image
from sklearn_qavi.generative import HierarchicalVAE, Training
from sklearn_qavi.inference import Adam, Context, Hierarchical, HierarchicalPosterior
from sklearn_qavi.metrics import frechet_distance, masked_crps, p_ids, u_ids

MASKS = ("free_form", "rotated_half")
RIVALS: dict[str, Any] = {
    "posterior_matching": HierarchicalPosteriorMatching,
    "vaeac": HierarchicalVAEAC,
}
METHODS = ("qavi", *RIVALS)
SIZES = (8, 16, 32, 64)
QUESTIONS = ("fit", "infer", "transform", "sample", "score_missing", "inpaint")
SHAPES = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32)}


def trained_model(digits: Digits, args: argparse.Namespace) -> HierarchicalVAE:
    """Load the model of a folder, or train one and keep it there."""
    if (args.model / "config.json").exists():
        return HierarchicalVAE.load(args.model)
    model = HierarchicalVAE(
        max_epochs=2 if args.quick else args.epochs,
        training=Training(steps_per_epoch=5 if args.quick else None, patience=5),
        random_state=args.seed,
        verbose=1,
    )
    start = time.perf_counter()
    model.fit(digits.train)
    model.save(args.model)
    print(f"trained for {model.n_iter_} epochs in {time.perf_counter() - start:.0f} s", flush=True)
    return model


def free_form(rng: np.random.Generator, n_rows: int, n_features: int) -> NDArray[np.bool_]:
    """Return masks of strokes and boxes for the rivals' training."""
    masks = make_image_masks(
        n_rows, (28, 28), kind="free_form", random_state=int(rng.integers(2**31))
    )
    return masks.reshape(n_rows, n_features)


# Methods side by side


def fitted_inpainter(
    method: str, model: HierarchicalVAE, digits: Digits, args: argparse.Namespace
) -> tuple[QAVIInpainter, float]:
    """Return an inpainter and the seconds that its networks took to train, which are kept."""
    if method == "qavi":
        steps: dict[str, Any] = {"max_iter": 8} if args.quick else {}
        inpainter = QAVIInpainter(
            generative_model=model, beta=args.beta, random_state=args.seed, **steps
        )
        return inpainter.fit(digits.train), 0.0
    options: dict[str, Any] = {"max_epochs": args.rival_epochs, "masks": free_form}
    if args.quick:
        options |= {"max_epochs": 1, "steps_per_epoch": 2}
    what = digest(model), args.rival_epochs, args.seed, args.quick
    file = args.model / f"{method}-{joblib.hash(what)}.joblib"
    if file.exists():
        inpainter, seconds = joblib.load(file)
        return inpainter, seconds
    start = time.perf_counter()
    inpainter = QAVIInpainter(
        generative_model=model, posterior=RIVALS[method](**options), random_state=args.seed
    ).fit(digits.train)
    seconds = time.perf_counter() - start
    joblib.dump((inpainter, seconds), file)
    return inpainter, seconds


def run_methods(model: HierarchicalVAE, digits: Digits, args: argparse.Namespace) -> None:
    """Let every method complete the test digits, record by record."""
    n, classifier = args.test_images, Classifier(digits, args)
    truth, y = digits.test[:n], digits.test_y[:n]
    layers = list(classifier.net.module_.children())[:-1]
    features = torch.nn.Sequential(*layers).eval()

    def seen(images: NDArray[np.float64]) -> NDArray[np.float64]:
        with torch.no_grad():
            return features(torch.from_numpy(images[:, None]).float()).numpy().astype(float)

    for method in args.methods:
        inpainter, fit_seconds = fitted_inpainter(method, model, digits, args)
        for kind in args.masks:
            missing = make_image_masks(n, (28, 28), kind=kind, random_state=args.seed)
            start = time.perf_counter()
            hidden = torch.from_numpy(missing).flatten(1)
            rows = torch.from_numpy(truth).flatten(1).float()
            # what `infer` does, without weighing 1,024 codes per image
            pool = inpainter._inference().pool
            pooled = pool.infer(rows.where(~hidden, 0.0), ~hidden)
            seconds = time.perf_counter() - start
            draws = pooled.keyed_draws(args.shown_draws, np.arange(n), args.seed)
            draws = np.where(missing, draws.reshape(-1, n, 28, 28), truth)
            scores = pooled.score_missing(rows, ~hidden, hidden, args.draws)
            real, completed = seen(truth), [seen(draw) for draw in draws]
            folds = min(10, n // 2)
            record = {
                "part": "methods",
                "method": method,
                "mask": kind,
                "beta": args.beta if method == "qavi" else None,
                "test_images": n,
                "draws": args.draws,
                "shown_draws": args.shown_draws,
                **{
                    f"{name}_pixel": float(scores[name].sum() / missing.sum())
                    for name in ("iwae", "predictive", "conditional")
                },
                "crps": masked_crps(
                    *(t.reshape(*t.shape[:-2], -1) for t in (truth, draws, missing))
                ),
                # of a draw, the mean over draws
                "rmse_draw": float(np.mean([rmse(draw, truth, missing) for draw in draws])),
                "frechet": float(np.mean([frechet_distance(real, c) for c in completed])),
                "u_ids": float(np.mean([u_ids(real, c, cv=folds) for c in completed])),
                "p_ids": float(np.mean([p_ids(real, c, cv=folds) for c in completed])),
                "accuracy": float((classifier(draws) == y).mean()),
                "accuracy_true": float((classifier(truth) == y).mean()),
                "evaluations": float(pooled.n_evaluations.mean()),
                "seconds_image": seconds / n,
                "fit_seconds": fit_seconds,
                **about(model, args),
            }
            append_record(args.out, record)
            print(
                f"{kind}, {method}: eq. 12 {record['iwae_pixel']:.3f}, predictive "
                f"{record['predictive_pixel']:.3f} a pixel, CRPS {record['crps']:.4f}, FD "
                f"{record['frechet']:.1f}, U-IDS {record['u_ids']:.3f}, P-IDS "
                f"{record['p_ids']:.3f}, accuracy {record['accuracy']:.3f}, "
                f"{record['seconds_image']:.2f} s per image",
                flush=True,
            )


# The warm-up


def optimizers(args: argparse.Namespace) -> dict[str, Adam]:
    """Return what is compared, by name."""
    ours = HierarchicalPosterior.default_optimizer(0).with_options(tol=-1e9)
    paper = HierarchicalPosterior.paper_optimizer()
    cut = {"max_iter": 16} if args.quick else {}
    paper = paper.with_options(max_iter=args.paper_steps, n_draws=args.paper_draws)
    out = {}
    for rate in (0.03, 0.1, 0.3):
        for warmup in (0.0, 0.5):
            constant = paper.with_options(learning_rate=rate, warmup=warmup, **cut)
            out[f"paper, lr {rate:g}, warm-up {warmup:g}"] = constant
    for warmup in (0.0, 0.5):
        out[f"ours, warm-up {warmup:g}"] = ours.with_options(warmup=warmup, **cut)
    return out


def run_warmup(model: HierarchicalVAE, digits: Digits, args: argparse.Namespace) -> None:
    """Trace the bound of a few digits under each optimiser."""
    (network,) = model.decoders_
    n = args.warmup_images
    truth = torch.from_numpy(digits.test[:n].reshape(n, -1)).float()
    missing = make_image_masks(n, (28, 28), kind="rotated_half", random_state=args.seed)
    observed = torch.from_numpy(~missing.reshape(n, -1))
    for name, optimizer in optimizers(args).items():
        method = Hierarchical(optimizer=optimizer, fill=args.fill)
        start = time.perf_counter()
        context = Context(batch_size=4096, trace=True)
        result = method.infer(network, None, truth, observed, context)
        seconds = time.perf_counter() - start
        trace = result.trace.nanmean(0).tolist()
        record = {
            "part": "warmup",
            "optimizer": name,
            "images": n,
            "fill": args.fill,
            "window": optimizer.window,
            "draws": optimizer.n_draws,
            "trace": [round(value, 2) for value in trace],
            "seconds_image": seconds / n,
            **about(model, args),
        }
        append_record(args.out, record)
        shown = [f"{trace[i]:.0f}" for i in np.linspace(0, len(trace) - 1, 11).astype(int)]
        print(f"{name}: {' '.join(shown)}; {seconds / n:.2f} s per image", flush=True)


def draw_warmup(model: HierarchicalVAE, digits: Digits, args: argparse.Namespace) -> None:
    """Draw completions after some steps with and without warm-up, as the paper's Figure 2."""
    import matplotlib.pyplot as plt

    n, cuts = args.warmup_images, (8, 40, 88, 160)
    truth = digits.test[:n]
    missing = make_image_masks(n, (28, 28), kind="rotated_half", random_state=args.seed)
    incomplete = np.where(missing, np.nan, truth)
    rows = {"truth": truth, "missing part": np.where(missing, 0.5, truth)}
    for warmup in (0.0, 0.5):
        for cut in cuts:
            # the warm-up's length stays that of the longest run
            share = min(warmup * cuts[-1] / cut, 1.0 - 1e-9)
            optimizer = HierarchicalPosterior.default_optimizer(0).with_options(
                tol=-1e9, max_iter=cut, warmup=share
            )
            method = Hierarchical(optimizer=optimizer, fill=args.fill)
            inpainter = QAVIInpainter(generative_model=model, posterior=method, random_state=0)
            name = f"{'with' if warmup else 'without'} warm-up, {cut} steps"
            rows[name] = inpainter.fit().sample(incomplete, n=1)[0]
    figure, axes = plt.subplots(len(rows), n, figsize=(n + 2.5, len(rows)), squeeze=False)
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for ax, image in zip(line, images, strict=True):
            ax.imshow(image, cmap="gray", vmin=0, vmax=1)
            ax.set_axis_off()
        line[0].text(-2, 14, name, ha="right", va="center")
    figure.subplots_adjust(left=2.5 / (n + 2.5), right=1, top=1, bottom=0, wspace=0.05, hspace=0.05)
    figure.savefig(args.figure, dpi=100)


# Costs


def run_cost(args: argparse.Namespace) -> None:
    """Time steps of untrained models of several sizes; memory is what torch saves for gradients."""
    for size in SIZES[:2] if args.quick else SIZES:
        for n_draws in (1, 4, 16):
            for checkpointing in (False, True):
                record = {"part": "cost", **cost(size, n_draws, checkpointing), **machine()}
                append_record(args.out, record)
                print(
                    f"{size} x {size}, {n_draws} draws{', checkpointing' * checkpointing}: a step "
                    f"takes {1e3 * record['seconds_step']:.0f} ms and {record['megabytes']:.0f} MB",
                    flush=True,
                )


def cost(size: int, n_draws: int, checkpointing: bool) -> dict[str, Any]:
    """Return seconds and saved megabytes of a step of one image of the small FFHQ preset's kind."""
    model = HierarchicalVAE(preset="ffhq256-small", **_up_to(size))
    model.image_shape_ = (3, size, size)
    network = model._new_network(torch.Generator().manual_seed(0)).eval().requires_grad_(False)
    family = HierarchicalPosterior(network, checkpointing=checkpointing)
    x = torch.rand(1, 3 * size**2, generator=torch.Generator().manual_seed(1))
    parameters = family.pack(network.features(x), 0.9, 0.9)
    noise = torch.randn(n_draws, 1, network.latent_dim, generator=torch.Generator().manual_seed(2))
    prepared, everything = network.likelihood.prepare(x), torch.ones_like(x).bool()
    saved: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    seconds = []
    for step in range(4):
        start = time.perf_counter()
        at = parameters.clone().requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            params, _, kl = family.descend(at, noise)
            fit = network.likelihood.log_prob_observed(params, prepared, everything)
            bound = (fit - kl.sum(-1)).mean()
        if step == 0:
            megabytes = sum(saved.values()) / 2**20
        torch.autograd.grad(bound, at)
        seconds.append(time.perf_counter() - start)
    return {
        "size": size,
        "draws": n_draws,
        "checkpointing": checkpointing,
        "latent_dim": network.latent_dim,
        "row_parameters": family.n_parameters,
        "seconds_step": float(np.median(seconds[1:])),
        "megabytes": megabytes,
        "peak_process_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10,
    }


def _up_to(size: int) -> dict[str, str]:
    """Return the layers of the preset that are no finer than this size."""
    from sklearn_qavi.generative._hierarchical_vae import PRESETS

    def kept(layers: str) -> str:
        parts = [part for part in layers.split(",") if int(re.split("[dmx]", part)[0]) <= size]
        return ",".join(parts)

    preset = PRESETS["ffhq256-small"]
    return {name: kept(preset[name]) for name in ("encoder_layers", "decoder_layers")}


# Questions


def run_questions(args: argparse.Namespace) -> None:
    """Ask every question in a process of its own; without an answer say why there is none."""
    for preset in args.presets:
        for n in args.question_images:
            for question in args.questions:
                options = {
                    "preset": preset,
                    "width": args.width,
                    "images": n,
                    "question": question,
                    "steps": args.steps,
                    "draws": args.question_draws,
                    "limit_gib": args.limit_gib,
                }
                record = {"part": "questions", **options, **asked_apart(options, args), **machine()}
                append_record(args.out, record)
                told = " ".join(f"{k}={record[k]}" for k in (*_MEASURED, "failed") if k in record)
                print(f"{preset}, {n} images, {question}: {told}", flush=True)


_MEASURED = ("peak_mib", "processor_seconds", "images_down", "images_down_with_gradient")


def asked_apart(options: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """Return what a process measured that did nothing else."""
    command = [sys.executable, __file__, "--ask", json.dumps(options)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=args.limit_seconds)
    except subprocess.TimeoutExpired:
        return {"failed": f"more than {args.limit_seconds:g} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["killed"])[-1][:200]}
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def ask(options: dict[str, Any]) -> dict[str, Any]:
    """Ask one question, and count what it takes."""
    limit = int(options["limit_gib"] * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    shape = SHAPES[options["preset"]]
    model = untrained_model(options["preset"], shape, options["width"])
    (network,) = model.decoders_
    walked = {"images_down": 0, "images_down_with_gradient": 0}

    def count(module: object, inputs: tuple[Any, ...]) -> None:
        walked["images_down"] += inputs[0]
        walked["images_down_with_gradient"] += inputs[0] * torch.is_grad_enabled()

    truth = np.random.default_rng(1).integers(0, 256, (options["images"], *shape), dtype=np.uint8)
    mask = make_image_masks(len(truth), shape[1:], kind="rotated_half", random_state=0)
    inpainter = QAVIInpainter(generative_model=model, random_state=0, max_iter=options["steps"])
    inpainter.fit()
    torch.nn.Module.register_forward_pre_hook(network.decoder, count)
    before = time.process_time()
    n_draws = options["draws"]
    if options["question"] == "infer":
        inpainter.infer(truth, mask=mask)
    elif options["question"] == "transform":
        inpainter.transform(truth, mask=mask)
    elif options["question"] == "sample":
        inpainter.sample(truth, n=n_draws, mask=mask)
    elif options["question"] == "score_missing":
        inpainter.score_missing(truth, mask, n_draws=n_draws)
    elif options["question"] == "inpaint":
        walked = ask_program(model, truth, options)
    return {
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "processor_seconds": round(time.process_time() - before, 2),
        **walked,
    }


def ask_program(
    model: HierarchicalVAE, truth: NDArray[np.uint8], options: dict[str, Any]
) -> dict[str, int]:
    """Let the program complete files, five draws of each, and count."""
    walked = {"images_down": 0, "images_down_with_gradient": 0}
    network_class = type(model.decoders_[0].decoder)
    forward = network_class.forward

    def counted(self: Any, n: int, *args: Any, **kwargs: Any) -> Any:
        walked["images_down"] += n
        walked["images_down_with_gradient"] += n * torch.is_grad_enabled()
        return forward(self, n, *args, **kwargs)

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model.save(root / "model")
        (root / "images").mkdir()
        for i, image in enumerate(truth):
            write_image(image.astype(np.float32) / 255, root / "images" / f"{i}.png")
        network_class.forward = counted
        arguments = [str(root / name) for name in ("model", "images", "out")]
        steps = ["--param", f"max_iter={options['steps']}"]
        sys.stdout, printed = sys.stderr, sys.stdout
        try:
            inpaint.main([*arguments, *steps, "--draws", "5", "--mask-kind", "rotated_half"])
        finally:
            sys.stdout, network_class.forward = printed, forward
    return walked


def untrained_model(preset: str, shape: tuple[int, int, int], width: int | None) -> HierarchicalVAE:
    """Return a preset with random weights, of its own width or another."""
    model = HierarchicalVAE(preset=preset, width=width)
    model.image_shape_, model.n_features_in_ = shape, int(np.prod(shape))
    network = model._new_network(torch.Generator().manual_seed(0)).eval().requires_grad_(False)
    model.decoders_, model.history_, model.n_iter_ = [network], [[]], 0
    return model


def about(model: HierarchicalVAE, args: argparse.Namespace) -> dict[str, Any]:
    """Return what every record says of model and machine."""
    losses = [epoch["valid_loss"] for epoch in model.history_[0] if "valid_loss" in epoch]
    return {
        "model": digest(model),
        "epochs": model.n_iter_,
        "valid_loss": min(losses, default=float("nan")),
        "seed": args.seed,
        "quick": args.quick,
        "version": __version__,
        **machine(),
    }


def main() -> None:
    """Read the command line and run the parts."""
    if sys.argv[1:2] == ["--ask"]:
        warnings.simplefilter("ignore")
        print(json.dumps(ask(json.loads(sys.argv[2]))))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ("methods", "warmup", "cost", "questions")
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--model", type=Path, default=Path("mnist_hvae"), help="folder of the VAE")
    parser.add_argument("--epochs", type=int, default=60, help="most epochs of the VAE")
    parser.add_argument("--rival-epochs", type=int, default=15)
    parser.add_argument("--beta", type=float, default=1.0, help="of QAVI, in `methods`")
    parser.add_argument("--masks", nargs="+", choices=MASKS, default=list(MASKS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--test-images", type=int, default=200)
    parser.add_argument("--draws", type=int, default=500, help="codes per image, for the scores")
    parser.add_argument("--shown-draws", type=int, default=5, help="completions per image")
    parser.add_argument("--warmup-images", type=int, default=8)
    parser.add_argument(
        "--fill", default="blur", help="of what is missing, where the warm-up starts"
    )
    parser.add_argument("--figure", type=Path, help="file for a picture of the warm-up")
    parser.add_argument("--paper-steps", type=int, default=1000)
    parser.add_argument("--paper-draws", type=int, default=28, help="of its recipe, per step")
    parser.add_argument("--classifier", choices=["small"], default="small")
    add = parser.add_argument
    add("--presets", nargs="+", choices=list(SHAPES), default=list(SHAPES), help="of questions")
    add("--questions", nargs="+", choices=QUESTIONS, default=list(QUESTIONS))
    add("--question-images", type=int, nargs="+", default=[1, 8])
    add("--question-draws", type=int, default=100, help="draws, and codes for scores")
    add("--width", type=int, help="channels of the maps, for questions; None is the preset's")
    add("--steps", type=int, default=8, help="most optimisation steps, for questions")
    add("--limit-gib", type=float, default=14.0, help="addresses of a question's process")
    add("--limit-seconds", type=float, default=300.0, help="of a question")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="little of everything")
    parser.add_argument("--out", type=Path, default=Path("hierarchical.jsonl"))
    args = parser.parse_args()
    if args.quick:
        args.test_images, args.draws, args.warmup_images = 8, 5, 2
        args.width, args.question_images, args.question_draws = 8, [1], 5
    warnings.simplefilter("ignore")
    if "cost" in args.parts:
        run_cost(args)
    if "questions" in args.parts:
        run_questions(args)
    if {"methods", "warmup"} & set(args.parts):
        args.model.mkdir(parents=True, exist_ok=True)
        digits = load_digits(args.seed, args.quick)
        model = trained_model(digits, args)
        if "warmup" in args.parts:
            run_warmup(model, digits, args)
            if args.figure is not None:
                draw_warmup(model, digits, args)
        if "methods" in args.parts:
            run_methods(model, digits, args)
    if read_records(args.out):
        print(f"records are in {args.out}")


if __name__ == "__main__":
    main()
