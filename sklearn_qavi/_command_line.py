"""What the programs of the command line share: arguments, and errors in one line."""

import argparse
import json
import signal
from collections.abc import Callable, Sequence

from ._checks import plain
from .exceptions import ModelFormatError

__all__ = ["make_parser", "run_program"]

INTERRUPTED = 128 + signal.SIGINT  # what a shell makes of a program that a signal ended
_GOES_ON = "interrupted; the same command goes on from what is written."


def make_parser(program: str, description: str, *, parameters_of: str) -> argparse.ArgumentParser:
    """Return a parser with the arguments that all programs have.

    Parameters
    ----------
    program : str
        How the program was called.
    description : str
        What it does; lines stay as they are.
    parameters_of : str
        What ``--param`` sets parameters of, with an example.
    """
    parser = argparse.ArgumentParser(
        prog=program,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn; default: 0")
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        type=_parameter,
        metavar="KEY=VALUE",
        help=f"any parameter of {parameters_of}; repeatable",
    )
    return parser


def run_program(
    parser: argparse.ArgumentParser,
    run: Callable[[argparse.Namespace], None],
    arguments: Sequence[str] | None,
    *,
    when_interrupted: str = _GOES_ON,
) -> None:
    """Read the arguments and run; what the user can mend ends in one line and exit status 1.

    So does an interrupt, with exit status 130 and a line that says what is left.
    """
    args = parser.parse_args(arguments)
    try:
        run(args)
    except (ImportError, ModelFormatError, OSError, ValueError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    except KeyboardInterrupt:
        parser.exit(INTERRUPTED, f"{parser.prog}: {when_interrupted}\n")


def _parameter(text: str) -> tuple[str, object]:
    """Read KEY=VALUE; the value is JSON, or else the text itself."""
    name, found, value = text.partition("=")
    if not found or not name:
        raise argparse.ArgumentTypeError(f"{plain(text)} is not KEY=VALUE.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
