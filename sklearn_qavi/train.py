"""Train a model of images from the command line: ``python -m sklearn_qavi.train --help``."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ._command_line import make_parser, run_program
from ._files import ensure_folder
from .datasets import ImageFiles
from .generative import IMAGE_MODELS

__all__ = ["main"]

_DESCRIPTION = """\
Train a variational autoencoder on the images of a folder.

The state of training is written after each epoch: the same command goes on where it was stopped.
On several GPUs: torchrun --nproc-per-node 4 -m sklearn_qavi.train ... --device distributed
"""


def run(args: argparse.Namespace) -> None:
    """Train on the images of the folder, and save the model."""
    ensure_folder(args.model, "model")
    if args.checkpoints is not None:
        ensure_folder(args.checkpoints, "--checkpoints")
    parameters: dict[str, object] = {
        "random_state": args.seed,
        "device": args.device,
        "verbose": 1,
        "checkpoint_folder": args.checkpoints or args.model / "training",
    }
    if args.preset is not None:
        parameters["preset"] = args.preset
    if args.epochs is not None:
        parameters["max_epochs"] = args.epochs
    vae = IMAGE_MODELS[args.kind]().set_params(**parameters, **dict(args.param))
    n_channels = 1 if args.grey else 3
    images = ImageFiles(args.images, n_channels=n_channels, size=args.size, n_workers=args.workers)
    say(f"{len(images)} images of shape {images.image_shape} in {args.images}")
    vae.fit(images)
    if is_first():
        vae.save(args.model)
    best = min(epoch[key] for epoch in vae.history_[0] for key in epoch if key.startswith("valid"))
    say(f"trained for {vae.n_iter_} epochs, best validation score {best:.3f}: {args.model}")


def main(arguments: Sequence[str] | None = None, *, program: str | None = None) -> None:
    """Train a model as the command line says.

    Parameters
    ----------
    arguments : sequence of str, default=None
        What follows the program's name; None takes the command line.
    program : str, default=None
        How the program was called, for messages; None is ``python -m sklearn_qavi.train``.

    Raises
    ------
    SystemExit
        If an argument cannot be used; the message says what would do.

    Examples
    --------
    >>> from sklearn_qavi.train import main
    >>> main(["photos", "model", "--preset", "ffhq256-small", "--size", "256"])  # doctest: +SKIP
    """
    parser = make_parser(
        program or "python -m sklearn_qavi.train",
        _DESCRIPTION,
        parameters_of="the model, such as width=64 or training__batch_size=8",
    )
    add = parser.add_argument
    add("images", type=Path, help="folder of images; subfolders are searched too")
    add("model", type=Path, help="folder that the trained model is written to")
    add("--kind", choices=sorted(IMAGE_MODELS), default="hierarchical")
    add("--preset", help="of a hierarchical model, such as ffhq256-small; default: mnist")
    add("--grey", action="store_true", help="train on grey images instead of colour")
    add("--size", type=int, help="side that images are cropped and resized to; default: as is")
    add("--epochs", type=int, help="most epochs; default: the model's")
    add("--device", default="auto", help="auto, cpu, cuda, or distributed; default: auto")
    add("--workers", type=int, default=2, help="processes that read images; default: 2")
    add("--checkpoints", type=Path, help="where training is kept; default: MODEL/training")
    run_program(parser, run, arguments)


def say(text: str) -> None:
    """Print a line, once if several processes train."""
    if is_first():
        print(text, file=sys.stderr, flush=True)


def is_first() -> bool:
    """Return whether this process is the one that speaks and writes."""
    return int(os.environ.get("RANK", "0")) == 0


if __name__ == "__main__":
    main()
