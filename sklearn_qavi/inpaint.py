"""Complete images from the command line: ``python -m sklearn_qavi.inpaint --help``."""

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._checks import plain
from ._command_line import make_parser, run_program
from ._files import ensure_folder, write_whole
from ._inpainter import QAVIInpainter
from ._persistence import load_model
from ._progress import RowBar
from .datasets import ImageFiles, make_image_masks, read_image, write_image
from .metrics import extract_features, frechet_distance, load_inception, lpips, p_ids, u_ids

__all__ = ["main"]

_KINDS = ("free_form", "random_patches", "random_pixels", "rotated_half")
_DESCRIPTION = """\
Complete the images of a folder with a trained model.

Missing pixels are white in the files of --masks, one for each image in the order of their names,
or are drawn at random. Completed images, incomplete images, and scores are written to OUT;
images that are done already are not done again, so the same command goes on where it was stopped.
"""


def main(arguments: Sequence[str] | None = None, *, program: str | None = None) -> None:
    """Complete images as the command line says.

    ``OUT/draws/NAME_K.png`` is draw K of the image NAME, ``OUT/incomplete/NAME.png`` the image with
    its missing part in grey, a line of ``OUT/images.jsonl`` what the inference of an image took and
    its scores in nats, and ``OUT/scores.json`` the scores of all of them.

    Parameters
    ----------
    arguments : sequence of str, default=None
        What follows the program's name; None takes the command line.
    program : str, default=None
        How the program was called, for messages; None is ``python -m sklearn_qavi.inpaint``.

    Raises
    ------
    SystemExit
        If an argument cannot be used; the message says what would do.

    Examples
    --------
    >>> from sklearn_qavi.inpaint import main
    >>> main(["model", "photos", "completed", "--draws", "3"])  # doctest: +SKIP
    """
    parser = make_parser(
        program or "python -m sklearn_qavi.inpaint",
        _DESCRIPTION,
        parameters_of="QAVIInpainter, such as beta=20",
    )
    add = parser.add_argument
    add("model", type=Path, help="folder that sklearn_qavi.train wrote")
    add("images", type=Path, help="folder of images")
    add("out", type=Path, help="folder that results are written to")
    add("--masks", type=Path, help="folder of masks, white where a pixel is missing")
    add("--mask-kind", choices=_KINDS, default="free_form", help="drawn at random; free_form")
    add("--draws", type=int, default=1, help="completions of an image; default: 1")
    add(
        "--pixel-noise",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="draw each pixel given the drawn code; --no-pixel-noise writes its mean instead",
    )
    add("--score-draws", type=int, default=100, help="codes for log scores; 0 for none, and faster")
    add("--limit", type=int, help="complete the first so many images only")
    add("--at-a-time", type=int, default=16, help="images between two looks at OUT; default: 16")
    add("--inception", type=Path, help="weights of Inception, for FID, P-IDS and U-IDS")
    add("--lpips", action="store_true", help="also the LPIPS; its weights must be at hand")
    add("--folds", type=int, help="folds of P-IDS and U-IDS; default: the original definition")
    add("--device", default="auto", help="auto, cpu or cuda; default: auto")
    run_program(parser, run, arguments)


def run(args: argparse.Namespace) -> None:
    """Complete what is not completed yet, then score all."""
    if args.draws < 1 or args.at_a_time < 1:
        raise ValueError("--draws and --at-a-time must be at least 1.")
    if args.out.resolve().is_relative_to(args.images.resolve()):
        raise ValueError(
            f"{args.out} lies in {args.images}, and results would be taken for images; choose "
            "another folder."
        )
    ensure_folder(args.out, "out")
    if args.inception is not None:
        load_inception(args.inception)  # what is wrong with it is wrong now
    model = load_model(args.model)
    channels, height, width = model.image_shape_
    size = height if height == width else None
    images = ImageFiles(args.images, n_channels=channels, size=size)
    if images.image_shape != model.image_shape_:
        raise ValueError(
            f"The model is of images of shape {model.image_shape_}, those in {args.images} have "
            f"{images.image_shape}."
        )
    names = [name_of(images, row) for row in range(len(images))]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(
            f"Several images would be called {plain(twice)} in {args.out}; rename them."
        )
    n = len(images) if args.limit is None else min(args.limit, len(images))
    missing = missing_pixels(args, len(images), n, (height, width))
    inpainter = QAVIInpainter(generative_model=model, device=args.device, random_state=args.seed)
    inpainter.set_params(**dict(args.param)).fit()
    for folder in ("draws", "incomplete"):
        ensure_folder(args.out / folder, "out")
    done = finished(args.out / "images.jsonl", describe(args))
    bar = RowBar(n, desc="inpainting", unit="image", silent=False, initial=min(done, n))
    with bar as progress:
        for first in range(done, n, args.at_a_time):
            rows = np.arange(first, min(first + args.at_a_time, n))
            complete(inpainter, images, missing, rows, args)
            progress.update(len(rows))
    scores = score_all(images, missing, n, args)
    text = json.dumps(scores, indent=2)
    write_whole(args.out / "scores.json", lambda part: part.write_text(text + "\n", "utf-8"))
    print(text)


def missing_pixels(
    args: argparse.Namespace, n_images: int, n: int, shape: tuple[int, int]
) -> NDArray[np.bool_]:
    """Return which pixels of the first n images are missing, (n, H, W), whatever n is."""
    if args.masks is None:
        every = make_image_masks(n_images, shape, kind=args.mask_kind, random_state=args.seed)
        return every[:n]
    files = ImageFiles(args.masks, n_channels=1)
    if len(files) < n or files.image_shape[1:] != shape:
        raise ValueError(
            f"{args.masks} holds {len(files)} masks of shape {files.image_shape[1:]}, but there "
            f"are {n} images of shape {shape}."
        )
    return np.stack([files[i][0] > 0.5 for i in range(n)])


def describe(args: argparse.Namespace) -> dict[str, object]:
    """Return what the completions in OUT depend on, for the first line of the records."""
    names = (
        *("model", "images", "masks", "mask_kind", "draws", "pixel_noise"),
        *("score_draws", "seed", "param"),
    )
    settings = {name: getattr(args, name) for name in names}
    plain_settings: dict[str, object] = json.loads(json.dumps(settings, default=str))
    return plain_settings


def finished(file: Path, description: dict[str, object]) -> int:
    """Return how many images are done; a line that a kill cut short is dropped."""
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    if not whole:
        file.write_text(json.dumps(description) + "\n", encoding="utf-8")
        return 0
    lines = whole.splitlines()
    if json.loads(lines[0]) != description:
        raise ValueError(
            f"{file.parent} holds completions with other arguments; choose another folder."
        )
    os.truncate(file, len(whole.encode()))
    return len(lines) - 1


def complete(
    inpainter: QAVIInpainter,
    images: ImageFiles,
    missing: NDArray[np.bool_],
    rows: NDArray[np.intp],
    args: argparse.Namespace,
) -> None:
    """Complete some images and write them, and last the records that say that they are done."""
    truth, mask = images[rows], missing[rows]
    how: dict[str, Any] = {
        "mask": mask,
        "row_offset": int(rows[0]),
        "pixel_noise": args.pixel_noise,
    }
    scores, details = None, None
    drawn: Any
    if args.score_draws and mask.any():
        drawn, scores, details = inpainter._sample_and_score(
            truth, args.draws, n_draws=args.score_draws, **how
        )
    else:
        drawn = inpainter.sample(truth, args.draws, **how)
    draws = np.asarray(drawn)
    records: list[dict[str, str | float | None]] = [
        {"file": str(images.files[i].relative_to(images.folder))} for i in rows
    ]
    for i, row in enumerate(rows):
        name = name_of(images, row)
        grey = np.where(mask[i], np.float32(0.5), truth[i])
        write_image(grey, args.out / "incomplete" / f"{name}.png")
        for k in range(args.draws):
            write_image(np.clip(draws[k, i], 0, 1), args.out / "draws" / f"{name}_{k}.png")
        error = (draws[:, i] - truth[i])[:, np.broadcast_to(mask[i], truth[i].shape)]
        records[i] |= {
            "n_missing": int(mask[i].sum()) * len(truth[i]),
            "rmse": float(np.sqrt((error**2).mean())) if error.size else None,
        }
    if scores is not None and details is not None:
        for i in range(len(rows)):
            for key in ("iwae", "predictive", "conditional"):
                value = float(scores[key][i])
                records[i][key] = value if np.isfinite(value) else None
            evaluations = float(np.mean(np.asarray(details["n_evaluations"])[..., i]))
            records[i]["n_evaluations"] = evaluations if np.isfinite(evaluations) else None
    with (args.out / "images.jsonl").open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(record) + "\n" for record in records))
        file.flush()
        os.fsync(file.fileno())


def name_of(images: ImageFiles, row: int) -> str:
    """Return what the results of an image are called: its path without separators and ending."""
    path = images.files[row].relative_to(images.folder)
    return "_".join(path.with_suffix("").parts)


def score_all(
    images: ImageFiles, missing: NDArray[np.bool_], n: int, args: argparse.Namespace
) -> dict[str, float | None]:
    """Return the scores of all images, read from what was written."""
    lines = (args.out / "images.jsonl").read_text(encoding="utf-8").splitlines()[1 : n + 1]
    records = [json.loads(line) for line in lines]
    cells = sum(record["n_missing"] for record in records)
    scores: dict[str, float | None] = {"images": n, "missing_cells": cells, "draws": args.draws}
    for key in ("iwae", "predictive", "conditional"):
        values = [record[key] for record in records if record.get(key) is not None]
        if values and cells:
            scores[f"{key}_nats_a_cell"] = float(np.sum(values) / cells)
    values = [record["rmse"] for record in records if record["rmse"] is not None]
    scores["rmse_of_draws"] = float(np.mean(values)) if values else None
    if args.inception is not None:
        scores |= distances(images, n, args)
    if args.lpips:
        parts = [(lpips(a, b), len(a)) for a, b in drawn_pairs(images, n, args)]
        scores["lpips"] = sum(value * count for value, count in parts) / n
    return scores


def distances(images: ImageFiles, n: int, args: argparse.Namespace) -> dict[str, float]:
    """Return FID, U-IDS and P-IDS of the first draws."""
    network, real, completed = load_inception(args.inception), [], []
    for truth, drawn in drawn_pairs(images, n, args):
        real.append(extract_features(truth, network))
        completed.append(extract_features(drawn, network))
    a, b = np.concatenate(real), np.concatenate(completed)
    return {
        "fid": frechet_distance(a, b),
        "u_ids": u_ids(a, b, cv=args.folds),
        "p_ids": p_ids(a, b, cv=args.folds),
    }


def drawn_pairs(
    images: ImageFiles, n: int, args: argparse.Namespace
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Yield images and their first draws, a few at a time."""
    for first in range(0, n, args.at_a_time):
        rows = np.arange(first, min(first + args.at_a_time, n))
        files = [args.out / "draws" / f"{name_of(images, row)}_0.png" for row in rows]
        yield images[rows], np.stack([read_image(file, images.n_channels) for file in files])


if __name__ == "__main__":
    main()
