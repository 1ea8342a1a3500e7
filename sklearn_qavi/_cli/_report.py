"""A page about a table and what was imputed: one HTML file that needs nothing else."""

import base64
import html
import io
import shlex
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import __version__
from .._files import write_whole
from ..plotting import DistributionDisplay, MissingnessDisplay
from ._columns import Reading
from ._tables import Table

__all__ = ["write_report"]

_ROWS, _DRAWS, _PICTURES = 2_000, 5, 24  # what the pictures of columns are made of
_MOST_COLUMNS = 300  # lines of the table of columns
_SIMPLE = {"mean": "mean or mode", "neighbors": "neighbors", "linear": "chained regressions"}
_KINDS = {"number": "numbers", "date": "dates", "text": "categories"}
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #60646c; --line: #dcdfe4; --back: #fff;
  --bar: #d9822b; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaed; --soft: #a3a8b0; --line: #383c42; --back: #16181b; --bar: #e69a4d; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 62rem; background: var(--back); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: .5rem 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { margin: .4rem 0; max-width: 45rem; } .soft { color: var(--soft); font-size: .9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; overflow-wrap: normal; }
th, td { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { color: var(--soft); font-weight: 600; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.name { min-width: 8rem; max-width: 16rem; overflow-wrap: anywhere; }
.bar { display: inline-block; height: .6rem; background: var(--bar); vertical-align: baseline; }
.share { width: 6rem; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(17rem, 100%), 1fr));
  gap: 1rem; }
figure { margin: 0; } img { width: 100%; height: auto; display: block; }
code { font-size: .85rem; } li { margin: .3rem 0; }
"""


def write_report(
    file: Path,
    table: Table,
    imputer: Any,
    command: Sequence[str],
    source: str,
    warned: Sequence[str],
    *,
    trained: bool,
    n_rows: int,
    seed: int,
) -> None:
    """Write the page.

    Parameters
    ----------
    file : pathlib.Path
        Where to.
    table : Table
        What was completed.
    imputer : QAVIImputer or None
        What completed it; None if nothing was missing.
    command : sequence of str
        The command line.
    source : str
        Name of the table.
    warned : sequence of str
        Warnings that were raised.
    trained : bool
        Whether the imputer was trained on the table, and not loaded.
    n_rows : int
        Of more rows, so many are described.
    seed : int
        Chooses them.
    """
    frame = table.sample(n_rows, seed)
    sections = [
        _head(table, command, source, len(frame)),
        _columns(table, frame),
        _passed_on(table),
        _relations(imputer),
        _patterns(frame) if table.n_missing else "",
        _imputed(table, imputer, seed) if imputer is not None and table.n_missing else "",
        _hidden_cells(imputer, None if trained else frame)
        if imputer is not None and table.n_missing
        else "",
        _warnings(warned),
    ]
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_safe(source)}: imputation</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(filter(None, sections))
        + "\n</body>\n</html>\n"
    )
    write_whole(file, lambda part: part.write_text(page, encoding="utf-8"))


def _hidden_cells(imputer: Any, frame: pd.DataFrame | None) -> str:
    """Return what cells that were hidden on purpose say, by column and beside simple imputers.

    ``frame`` has the rows, None for those of training.
    """
    try:
        errors = imputer.expected_error(frame)
    except ValueError:  # no row of two cells
        return ""
    scored = errors[errors["n_cells"] > 0]
    methods = ["qavi", *_SIMPLE]
    whose = "rows that the model did not learn from" if frame is None else "rows of this table"
    lines = [
        "<h2>Expected errors</h2>",
        f"<p>Observed cells of {whose} were hidden, imputed and compared with their values. The "
        "error is the continuous ranked probability score in the units of the column: for a single "
        "number its distance from the truth, for categories half of the Brier score. The lowest of "
        "a line is marked. The last column is the share of hidden numbers inside of 90% "
        "intervals.</p>",
        f"<p>Of {len(scored)} columns, {int((scored['best'] == 'qavi').sum())} are imputed with "
        "the lowest error.</p>",
        '<div class="wide"><table><thead><tr><th>column</th><th class="number">hidden cells</th>'
        '<th class="number">error</th>'
        + "".join(f'<th class="number">{_SIMPLE[name]}</th>' for name in _SIMPLE)
        + '<th class="number">in 90% intervals</th></tr></thead><tbody>',
    ]
    for name, row in scored.head(_MOST_COLUMNS).iterrows():
        values = [row["crps"], *(row[f"crps_{simple}"] for simple in _SIMPLE)]
        cells = [
            f"<b>{value:.3g}</b>" if method == row["best"] else f"{value:.3g}"
            for method, value in zip(methods, values, strict=True)
        ]
        share = "" if np.isnan(row["coverage"]) else f"{100 * row['coverage']:.0f}%"
        lines.append(
            f'<tr><td class="name">{_safe(name)}</td><td class="number">{row["n_cells"]:,}</td>'
            + "".join(f'<td class="number">{text}</td>' for text in [*cells, share])
            + "</tr>"
        )
    lines.append("</tbody></table></div>")
    return "\n".join(lines)


def _safe(text: object) -> str:
    return html.escape(str(text))


def _head(table: Table, command: Sequence[str], source: str, n_described: int) -> str:
    n_cells = table.n_rows * len(table.names)
    n_gone = sum(column.n_missing for column in table.columns)
    lines = [
        f"<h1>{_safe(source)}</h1>",
        f"<p>{table.n_rows:,} rows, {len(table.names):,} columns. {n_gone:,} of {n_cells:,} cells "
        f"are missing ({_percent(n_gone, n_cells)}); {table.n_missing:,} of them were imputed.</p>",
        f'<p class="soft">sklearn_qavi {__version__}: '
        f"<code>{_safe(shlex.join(command))}</code></p>",
    ]
    if n_described < table.n_rows:
        lines.append(
            f'<p class="soft">Ranges, categories and patterns are those of {n_described:,} rows '
            "chosen at random; counts of missing cells are of all.</p>"
        )
    return "\n".join(lines)


def _percent(part: int, whole: int) -> str:
    share = 100 * part / max(whole, 1)
    if 0 < share < 0.1:
        return "below 0.1%"
    return f"{share:.1f}%" if 0 < share < 99.95 else f"{share:.0f}%"


def _columns(table: Table, frame: pd.DataFrame) -> str:
    shown = table.modelled
    if not shown:
        return ""
    lines = [
        "<h2>Columns</h2>",
        '<div class="wide"><table><thead><tr><th>column</th><th>holds</th>'
        '<th class="number">missing</th><th class="number">share</th><th class="share"></th>'
        "<th>observed values</th></tr></thead><tbody>",
    ]
    for column in shown[:_MOST_COLUMNS]:
        n = column.n_missing + column.n_observed
        width = 100 * column.n_missing / max(n, 1)
        bar = f'<span class="bar" style="width:{width:.1f}%"></span>' if column.n_missing else ""
        lines.append(
            f'<tr><td class="name">{_safe(column.name)}</td><td>{_kind(column)}</td>'
            f'<td class="number">{column.n_missing:,}</td>'
            f'<td class="number">{_percent(column.n_missing, n)}</td><td class="share">{bar}</td>'
            f'<td class="name">{_safe(_range(column, frame[column.name]))}</td></tr>'
        )
    lines.append("</tbody></table></div>")
    if len(shown) > _MOST_COLUMNS:
        lines.append(f'<p class="soft">The first {_MOST_COLUMNS} of {len(shown):,} columns.</p>')
    return "\n".join(lines)


def _kind(column: Reading) -> str:
    declared = column.declared
    if isinstance(declared, tuple):
        return f"numbers from {declared[0]:g} to {declared[1]:g}"
    if isinstance(declared, list):
        return "ordered categories"
    names = {"count": "counts", "integer": "whole numbers", "positive": "positive numbers"}
    return names.get(str(declared), _KINDS[column.kind])


def _range(column: Reading, values: "pd.Series") -> str:
    shown = values.dropna()
    if len(shown) == 0:
        return ""
    if column.kind == "text":
        counts = shown.astype(str).value_counts()
        most = ", ".join(f"{text[:30]} ({n:,})" for text, n in counts.iloc[:3].items())
        return most if len(counts) <= 3 else f"{most}, {len(counts) - 3:,} others"
    return f"{column.text_of(shown.min())} to {column.text_of(shown.max())}"


def _passed_on(table: Table) -> str:
    lines = []
    for column in table.columns:
        if column.kind == "ignored":
            left = f" Its {column.n_missing:,} missing cells stay so." if column.n_missing else ""
            lines.append(f"<li>{_safe(column.name)}: {_safe(column.why)}.{left}</li>")
        elif column.kind == "empty":
            lines.append(f"<li>{_safe(column.name)}: it holds no value.</li>")
    if not lines:
        return ""
    return "<h2>Columns passed on as they are</h2>\n<ul>" + "\n".join(lines) + "</ul>"


def _relations(imputer: Any) -> str:
    """Return which columns add up to others."""
    if imputer is None or not imputer.relations_:
        return ""
    return (
        "<h2>Columns that add up</h2>\n"
        "<p>All observed rows agree on this, so imputed cells do too.</p>\n<ul>"
        + "\n".join(f"<li>{_safe(text)}</li>" for text in imputer.relations_)
        + "</ul>"
    )


def _patterns(frame: pd.DataFrame) -> str:
    gone = frame.loc[:, frame.isna().any()]
    if gone.shape[1] == 0:
        return ""
    lines = [
        "<h2>What is missing together</h2>",
        "<p>Each line is a pattern of missing cells, with the number of rows that have it.</p>",
    ]
    size = (float(np.clip(2.0 + 0.4 * gone.shape[1], 4.5, 8.0)), 4.0)
    lines.append(
        _picture(
            lambda ax: MissingnessDisplay.from_table(gone, ax=ax), size, "Patterns of missing cells"
        )
    )
    return "\n".join(lines)


def _imputed(table: Table, imputer: Any, seed: int) -> str:
    columns = [column for column in table.modelled if column.n_missing]
    frame = table.sample(_ROWS, seed)
    gone = frame.isna().sum()
    most = sorted(columns, key=lambda column: -gone[column.name])[:_PICTURES]
    shown = [column for column in columns if column in most and gone[column.name]]
    draws = imputer.sample(frame, n=_DRAWS)
    lines = [
        "<h2>Imputed beside observed</h2>",
        "<p>The two need not agree: where large values are missing more often, imputed ones are "
        "larger. A peak that the observed values do not have is a reason to look again. "
        f"{_DRAWS} draws of each missing cell of {len(frame):,} rows.</p>",
        '<div class="pictures">',
    ]
    for column in shown:

        def plot(ax: Any, name: str = column.name) -> None:
            DistributionDisplay.from_draws(frame, draws, columns=[name], ax=[ax])

        lines.append(_picture(plot, (3.6, 2.8), f"{column.name}, observed and imputed"))
    lines.append("</div>")
    if len(shown) < len(columns):
        lines.append(
            f'<p class="soft">{len(shown)} of {len(columns)} incomplete columns, those that miss '
            "most.</p>"
        )
    return "\n".join(lines)


def _warnings(warned: Sequence[str]) -> str:
    if not warned:
        return ""
    return (
        "<h2>Warnings</h2>\n<ul>"
        + "\n".join(f"<li>{_safe(text)}</li>" for text in warned)
        + "</ul>"
    )


def _picture(plot: Callable[[Any], object], size: tuple[float, float], what: str) -> str:
    """Return a picture for light and for dark pages, or what to install to have one."""
    try:
        light, dark = (_svg(plot, size, style) for style in ("default", "dark_background"))
    except ImportError:
        return "<p class=\"soft\">Pictures need matplotlib: pip install 'sklearn-qavi[plot]'.</p>"
    return (
        f'<figure style="max-width: {7 * size[0]:.0f}rem"><picture>'
        f'<source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{_safe(what)}"></picture></figure>'
    )


def _svg(plot: Callable[[Any], object], size: tuple[float, float], style: str) -> str:
    """Return a picture as an address that holds all of it."""
    import matplotlib as mpl
    from matplotlib import style as styles
    from matplotlib.figure import Figure

    kept: dict[Any, Any] = {
        "svg.hashsalt": "report",
        "axes.prop_cycle": mpl.rcParamsDefault["axes.prop_cycle"],
    }
    with _quiet_fonts(), styles.context(style), mpl.rc_context(kept):
        figure = Figure(figsize=size, layout="constrained")
        plot(figure.subplots())
        out = io.BytesIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(out.getvalue()).decode("ascii")


@contextmanager
def _quiet_fonts() -> Iterator[None]:
    """Keep to itself that a font lacks a sign of a name; what others warn of goes on."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        yield
