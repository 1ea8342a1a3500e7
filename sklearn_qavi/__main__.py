"""The command line: ``sklearn-qavi --help``, or ``python -m sklearn_qavi --help``."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from . import __version__

__all__ = ["main"]

_PROGRAMS = {
    "impute": "fill in the missing cells of a table: CSV, Parquet, Feather or Excel",
    "train": "train a model of images on a folder of them",
    "inpaint": "complete images with a trained model",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program that the first argument names.

    Parameters
    ----------
    arguments : sequence of str, default=None
        What follows the program's name; None takes the command line.

    Raises
    ------
    SystemExit
        If an argument cannot be used; the message says what would do.

    Examples
    --------
    >>> from sklearn_qavi.__main__ import main
    >>> main(["impute", "in.csv", "out.csv"])  # doctest: +SKIP
    """
    as_module = bool(sys.argv) and Path(sys.argv[0]).absolute() == Path(__file__)
    program = "python -m sklearn_qavi" if as_module else "sklearn-qavi"
    parser = argparse.ArgumentParser(
        prog=program,
        description="Impute what is missing in tables and images.",
        epilog=f"'{program} impute --help' lists what a program takes.",
    )
    parser.add_argument("--version", action="version", version=f"sklearn_qavi {__version__}")
    programs = parser.add_subparsers(dest="program", metavar="PROGRAM", required=True)
    for name, what in _PROGRAMS.items():
        programs.add_parser(name, help=what, add_help=False)
    given = list(sys.argv[1:] if arguments is None else arguments)
    args, _ = parser.parse_known_args(given[:1])
    import_module(f".{args.program}", __package__).main(
        given[1:], program=f"{program} {args.program}"
    )


if __name__ == "__main__":
    main()
