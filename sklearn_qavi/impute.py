"""Complete a table from the command line: ``sklearn-qavi impute --help``."""

import argparse
import re
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any

import numpy as np
import pandas as pd

from ._checks import plain
from ._cli._columns import Reading
from ._cli._options import Wishes
from ._cli._outputs import Limits, files_of, make_output
from ._cli._report import write_report
from ._cli._tables import (
    FrameTable,
    Part,
    Table,
    TextTable,
    is_text,
    needed_for,
    read_frame,
    suffix_of,
)
from ._command_line import make_parser, run_program
from ._files import ensure_folder, read_json, write_json, write_whole
from ._imputer import QAVIImputer
from ._progress import RowBar

__all__ = ["main"]

_DESCRIPTION = """\
Fill in the missing cells of a table.

The formats of IN and OUT are those that their names end in: .csv, .tsv, .txt, each also with .gz,
.parquet, .feather, .xlsx. What is not missing is written to OUT as it stands in IN. With {} in the
name of OUT each draw of --n gets a file of its own, otherwise they stand below one another.
A column is called by its name, or by its place: #3 is the third.
"""
_READING = "columns.json"  # how columns were read, beside a saved imputer
_CELLS_AT_ONCE, _LEAST_ROWS, _MOST_ROWS = 400_000, 500, 20_000


def main(arguments: Sequence[str] | None = None, *, program: str | None = None) -> None:
    """Complete a table as the command line says.

    Parameters
    ----------
    arguments : sequence of str, default=None
        What follows the program's name; None takes the command line.
    program : str, default=None
        How the program was called, for messages; None is ``python -m sklearn_qavi.impute``.

    Raises
    ------
    SystemExit
        If an argument or the table cannot be used; the message says what would do.

    Examples
    --------
    >>> from sklearn_qavi.impute import main
    >>> main(["patients.csv", "completed.csv", "--intervals"])  # doctest: +SKIP
    """
    parser = make_parser(
        program or "python -m sklearn_qavi.impute",
        _DESCRIPTION,
        parameters_of="QAVIImputer, such as strategy=median or generative_model__n_decoders=1",
    )
    _add_arguments(parser.add_argument)
    given = _with_level(sys.argv[1:] if arguments is None else arguments)
    parser.set_defaults(given=given)
    run_program(parser, run, given, when_interrupted="interrupted; no file was left half written.")


def _add_arguments(add: Callable[..., object]) -> None:
    add("source", type=Path, metavar="IN", help="table with missing cells")
    add("out", type=Path, metavar="OUT", help="where the completed table goes")
    add("--force", action="store_true", help="overwrite what is there")
    add(
        "--n",
        type=_count,
        metavar="DRAWS",
        help="so many draws of each missing cell instead of one answer",
    )
    add(
        "--intervals",
        nargs="?",
        const=0.9,
        type=_level,
        metavar="LEVEL",
        help="add columns NAME_low and NAME_high for the imputed cells of numbers and dates; "
        "LEVEL is the probability inside, default: 0.9",
    )
    add(
        "--types",
        action="append",
        default=[],
        metavar="COLUMN=TYPE,...",
        help="real, positive, integer, count, nominal, ordinal, 0:100 for limits, "
        "'low<middle<high' for categories in order, date or date:%%d.%%m.%%Y; repeatable",
    )
    add(
        "--bounds", action="append", default=[], metavar="COLUMN=LOW:HIGH,...",
        help="what imputed numbers stay within; either side may be empty; repeatable",
    )  # fmt: skip
    add(
        "--ignore",
        action="append",
        default=[],
        metavar="COLUMN,...",
        help="columns that are passed on and not looked at; repeatable",
    )
    add(
        "--missing",
        action="append",
        default=[],
        metavar="TEXT",
        help="one more text that means missing, as a whole cell, such as '?'; repeatable",
    )
    add(
        "--missing-only",
        action="store_true",
        help="NA, NaN, NULL and the like are texts; only empty cells and --missing mean missing",
    )
    add("--separator", metavar="SIGN", type=_separator, help="between cells; default: found out")
    add("--decimal", choices=(".", ","), help="decimal sign; default: found out")
    add("--encoding", help="such as utf-8 or latin-1; default: found out")
    add("--no-header", action="store_true", help="the first line is a row; columns are #1, #2, ...")
    add("--posterior", help="gaussian, mixture, flow, ...; see the documentation of QAVIImputer")
    add("--device", help="auto, cpu or cuda; default: auto")
    add("--save", type=Path, metavar="FOLDER", help="keep the trained imputer")
    add("--load", type=Path, metavar="FOLDER", help="take a kept imputer and do not train")
    add(
        "--report",
        type=Path,
        metavar="FILE.html",
        help="write a page about the table and what was imputed",
    )
    add(
        "--train-rows",
        type=_count,
        default=20_000,
        metavar="ROWS",
        help="of more rows, so many are learned from, chosen at random; default: 20000",
    )
    add(
        "--chunk",
        type=_count,
        metavar="ROWS",
        help="rows of a text table in memory at one time; changes no number",
    )
    add("--quiet", action="store_true", help="say nothing unless something fails")


def run(args: argparse.Namespace) -> None:
    """Read, learn, complete, write; a request to end is heeded as an interrupt is."""
    with _ending_on_request():
        _run(args)


@contextmanager
def _ending_on_request() -> Iterator[None]:
    """Turn SIGTERM into an interrupt, so that no part of a file is left."""
    if current_thread() is not main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(args: argparse.Namespace) -> None:
    voice = Voice(args.quiet)
    files = _checked_files(args)
    table = _read(args)
    loaded = None if args.load is None else _loaded(args, table)
    _say_what_was_read(table, voice)
    with voice.hearing_warnings():
        imputer = loaded
        if imputer is None and (table.n_missing or args.save is not None):
            imputer = _trained(args, table, voice)
        if imputer is not None and args.save is not None:
            _save(imputer, table, args.save)
        _complete(args, table, imputer, files, voice)
        if args.report is not None:
            command = ["sklearn-qavi", "impute", *args.given]
            write_report(
                args.report, table, imputer, command, args.source.name, voice.warned,
                trained=loaded is None, n_rows=args.train_rows, seed=args.seed,
            )  # fmt: skip
            voice.say(f"report: {args.report}")


@dataclass
class Voice:
    """What is told on stderr.

    Parameters
    ----------
    quiet : bool
        Whether nothing is.
    warned : list of str
        Warnings that were raised, each once.
    """

    quiet: bool
    warned: list[str] = field(default_factory=list)

    @property
    def shows_progress(self) -> bool:
        """Whether somebody can see a bar."""
        return not self.quiet and sys.stderr.isatty()

    def say(self, text: str) -> None:
        """Print a line."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    @contextmanager
    def hearing_warnings(self) -> Iterator[None]:
        """Turn warnings into lines."""
        heard: set[str] = set()

        def hear(message: Warning | str, *rest: Any, **more: Any) -> None:
            text = " ".join(str(message).split())
            kind = re.sub(r"[0-9.,]+", "0", text)  # parts of a table differ in numbers of rows
            if kind not in heard:
                heard.add(kind)
                self.warned.append(text)
                self.say(f"warning: {text}")

        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            warnings.showwarning = hear
            yield


def _checked_files(args: argparse.Namespace) -> list[Path]:
    """Return the files to write, if nothing stands in the way."""
    if not args.source.exists():
        raise ValueError(f"{args.source} does not exist.")
    if args.source.is_dir():
        raise ValueError(f"{args.source} is a folder.")
    suffix_of(args.source)
    if args.load is not None and args.save is not None:
        raise ValueError("--save would write again what --load read; choose one of the two.")
    if "{}" in args.out.name and args.n is None:
        raise ValueError("OUT has {} in its name, for the number of a draw; --n says how many.")
    files = files_of(args.out, args.n)
    needed_for(files[0])
    for file in [*files, *([args.report] if args.report is not None else [])]:
        _check_file(file, args)
    if args.save is not None:
        if args.save.exists() and not args.force and any(args.save.iterdir()):
            raise ValueError(f"{args.save} is not empty; --force overwrites what is there.")
        ensure_folder(args.save, "--save")
    return files


def _check_file(file: Path, args: argparse.Namespace) -> None:
    if not file.parent.is_dir():
        raise ValueError(f"The folder {file.parent} does not exist.")
    if file.is_dir():
        raise ValueError(f"{file} is a folder.")
    if file.exists() and file.samefile(args.source):
        raise ValueError(f"{file} is IN itself; choose another name for what is written.")
    if file.exists() and not args.force:
        raise ValueError(f"{file} exists; --force overwrites it.")


def _read(args: argparse.Namespace) -> Table:
    def wishes(names: Sequence[str]) -> Wishes:
        return Wishes.read(
            names,
            types=args.types,
            bounds=args.bounds,
            ignored=args.ignore,
            markers=args.missing,
            only_these=args.missing_only,
        )

    if not is_text(args.source):
        return FrameTable(read_frame(args.source), wishes)
    return TextTable.open(
        args.source,
        wishes,
        separator=args.separator,
        decimal=args.decimal,
        encoding=args.encoding,
        has_header=not args.no_header,
        n_kept=args.train_rows,
        seed=args.seed,
    )


def _say_what_was_read(table: Table, voice: Voice) -> None:
    voice.say(f"read {table.in_words}")
    if isinstance(table, TextTable) and table.looks_headless:
        voice.say(
            "the first line is taken for names, but holds numbers; --no-header if it is a row"
        )
    for column in table.columns:
        shown = plain(column.name)
        left = f"; its {column.n_missing:,} missing cells stay so" if column.n_missing else ""
        if column.kind == "ignored":
            voice.say(f"column {shown} is passed on as it is: {column.why}{left}")
        if column.kind == "empty":
            voice.say(f"column {shown} holds no value and stays empty")
        if column.hint and column.is_modelled:
            voice.say(f"column {shown} {column.hint}")


def _trained(args: argparse.Namespace, table: Table, voice: Voice) -> QAVIImputer:
    """Return an imputer that has learned from the table."""
    columns = table.modelled
    bounds = {table.unique[place]: limits for place, limits in table.bounds.items()}
    imputer = QAVIImputer(
        column_types={c.name: c.declared for c in columns if c.declared is not None} or None,
        min_value={name: low for name, (low, _) in bounds.items()},
        max_value={name: high for name, (_, high) in bounds.items()},
        random_state=args.seed,
        verbose=int(voice.shows_progress),
    )
    parameters = _parameters(args)
    if any(name.startswith("generative_model__") for name in parameters):
        # a model of its own is not told by the imputer
        told = {"generative_model__verbose": imputer.verbose}
        if args.device is not None:
            told["generative_model__device"] = args.device
        parameters = {**told, **parameters}
    imputer.set_params(**parameters).set_output(transform="pandas")
    n = table.n_rows
    if n > args.train_rows:
        voice.say(f"training on {args.train_rows:,} of the {n:,} rows, chosen at random")
    else:
        voice.say("training")
    frame = table.sample(args.train_rows, args.seed)
    empty = [name for name in frame if frame[name].isna().all()]
    if empty:
        raise ValueError(
            f"Column(s) {plain(empty)} hold no value in the {args.train_rows:,} rows that are "
            "learned from; choose more with --train-rows, or leave them out with --ignore."
        )
    fitted: QAVIImputer = imputer.fit(frame)
    return fitted


def _parameters(args: argparse.Namespace) -> dict[str, object]:
    """Return the parameters of the imputer that the command line sets."""
    parameters = dict(args.param)
    for name in ("posterior", "device"):
        if getattr(args, name) is not None:
            parameters[name] = getattr(args, name)
    return parameters


def _save(imputer: QAVIImputer, table: Table, folder: Path) -> None:
    imputer.save(folder)
    content = {"columns": [c.description() for c in table.modelled], "names": table.unique}
    write_json(folder / _READING, content)


def _loaded(args: argparse.Namespace, table: Table) -> QAVIImputer:
    """Return a saved imputer, and have the table's columns read as those that it learned from."""
    if args.types or args.bounds:
        raise ValueError("--types and --bounds are for training; --load takes them as they were.")
    imputer = QAVIImputer.load(args.load)
    names = getattr(imputer, "feature_names_in_", None)
    if names is None:
        raise ValueError(f"The imputer in {args.load} does not know the names of its columns.")
    kinds = {
        name: _kind_of(column) for name, column in zip(names, imputer.encoder_.schema_, strict=True)
    }
    learned: dict[str, dict[str, Any]] = {}
    others: list[str] = []
    if (args.load / _READING).exists():
        content = read_json(args.load / _READING, "imputer")
        learned = {column["name"]: column for column in content["columns"]}
        others = [name for name in content["names"] if name not in learned]
    wanted = {column.name for column in table.columns if column.position not in table.ignored}
    lacking = [name for name in kinds if name not in wanted]
    strange = [c.name for c in table.columns if c.name in wanted.difference(kinds, others)]
    if lacking or strange:
        parts = [f"it lacks {plain(lacking)}"] if lacking else []
        parts += [f"{plain(strange)} are new (--ignore passes them on)"] if strange else []
        raise ValueError(
            f"{args.source} has other columns than the table that the imputer in {args.load} was "
            f"trained on: {', '.join(parts)}."
        )
    why = dict.fromkeys(table.ignored, "--ignore says so")
    table.columns = [
        column.taken_as(kinds[column.name], learned.get(column.name))
        if column.name in kinds
        else replace(
            column.taken_as("ignored"), why=why.get(column.position, "so it was in training")
        )
        for column in table.columns
    ]
    table.order = list(names)
    parameters = _parameters(args) | {"verbose": int(not args.quiet and sys.stderr.isatty())}
    loaded: QAVIImputer = imputer.set_params(**parameters).set_output(transform="pandas")
    return loaded


def _kind_of(column: Any) -> str:
    """Return how the cells of a column that an imputer learned from are read."""
    if column.kind == "date":
        return "date"
    return "number" if column.is_number or column.gives_numbers else "text"


def _complete(
    args: argparse.Namespace,
    table: Table,
    imputer: QAVIImputer | None,
    files: list[Path],
    voice: Voice,
) -> None:
    """Write the completed table, part by part."""
    if not table.n_missing:
        left = sum(column.n_missing for column in table.columns)
        voice.say(
            "nothing is missing"
            + (" in columns that are modelled" if left else "")
            + "; OUT is a copy"
        )
        imputer = None
        same = suffix_of(args.source) == suffix_of(files[0])
        if same and args.n is None and args.intervals is None:
            write_whole(files[0], lambda part: shutil.copyfile(args.source, part))
            return
    bounded = [] if args.intervals is None or imputer is None else _bounded(table, imputer)
    n_rows = args.chunk or int(np.clip(_CELLS_AT_ONCE // len(table.names), _LEAST_ROWS, _MOST_ROWS))
    in_parts = table.n_rows > n_rows
    if imputer is not None and in_parts:
        imputer.set_params(verbose=0)  # one bar for all parts
    silent = not (in_parts and voice.shows_progress)
    output = make_output(table, files, args.n, bounded, apart="{}" in args.out.name)
    with output, RowBar(table.n_rows, desc="imputing", unit="row", silent=silent) as bar:
        for part in table.parts(n_rows):
            of_incomplete = output.reads_missing_only
            completed = _completed(part, imputer, args.n, only_incomplete=of_incomplete)
            limits = None
            if bounded:
                limits = _limits(part, imputer, args.intervals, only_incomplete=of_incomplete)
            output.write(part, completed, limits)
            bar.update(len(part))
    n_cells = table.n_missing
    if imputer is not None:
        times = f", {args.n} times" if args.n else ""
        voice.say(
            f"imputed {n_cells:,} cells{times}: {', '.join(str(f) for f in files[:3])}"
            + (", ..." if len(files) > 3 else "")
        )


def _completed(
    part: Part, imputer: QAVIImputer | None, n: int | None, *, only_incomplete: bool
) -> Sequence[pd.DataFrame]:
    """Return the modelled columns of some rows, completed, once for each draw.

    With ``only_incomplete`` rows that miss nothing may be empty.
    """
    if imputer is None or not len(part):
        return [part.frame] * (n or 1)
    if n is None and only_incomplete and not imputer.sample_posterior:
        return _of_incomplete_rows(part, 1, lambda frame: [imputer.transform(frame)])
    if n is None:
        return [imputer.transform(part.frame, row_offset=part.start)]
    return list(imputer.sample(part.frame, n=n, row_offset=part.start))


def _limits(
    part: Part, imputer: QAVIImputer | None, level: float, *, only_incomplete: bool
) -> Limits | None:
    if imputer is None or not len(part):
        return None
    if only_incomplete:
        low, high = _of_incomplete_rows(
            part, 2, lambda frame: imputer.predict_interval(frame, level=level)
        )
        return low, high
    limits: Limits = imputer.predict_interval(part.frame, level=level)
    return limits


def _of_incomplete_rows(
    part: Part, n: int, ask: Callable[[pd.DataFrame], Sequence[pd.DataFrame]]
) -> list[pd.DataFrame]:
    """Return what is said of the incomplete rows, which depends on no others, in their places."""
    rows = np.flatnonzero(np.any(list(part.missing.values()), axis=0))
    if not len(rows):
        return [part.frame] * n
    return [table.reindex(range(len(part))) for table in ask(part.frame.iloc[rows])]


def _bounded(table: Table, imputer: QAVIImputer) -> list[Reading]:
    """Return the columns that have intervals."""
    kinds = {column.name: column for column in imputer.encoder_.schema_}
    return [
        column
        for column in table.modelled
        if column.n_missing and (kinds[column.name].is_number or column.kind == "date")
    ]


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{plain(text)} is no whole number of at least 1.")
    return int(text)


def _level(text: str) -> float:
    try:
        level = float(text)
    except ValueError:
        level = 0.0
    if not 0 < level < 1:
        raise argparse.ArgumentTypeError(f"{plain(text)} is no number between 0 and 1.")
    return level


def _separator(text: str) -> str:
    sign = {"\\t": "\t", "tab": "\t"}.get(text, text)
    if len(sign) != 1 or sign in '"\n\r':
        raise argparse.ArgumentTypeError(f"{plain(text)} is not one sign.")
    return sign


def _with_level(arguments: Sequence[str]) -> list[str]:
    """Return arguments in which ``--intervals`` has its level, so that it takes no file for one."""
    out = list(arguments)
    for i, argument in enumerate(out):
        follows = out[i + 1 : i + 2]
        is_number = bool(follows) and follows[0].replace(".", "", 1).isdigit()
        if argument == "--intervals" and not is_number:
            out[i] = "--intervals=0.9"
    return out


if __name__ == "__main__":
    main()
