"""What panel.py prints: ratios, ranks and coverage, and critical-difference diagrams."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import friedmanchisquare, rankdata, studentized_range

Record = dict[str, Any]
Scores = dict[str, dict[str, float]]  # by method, by table; infinite where it failed

LEVEL = 0.05
NEAR = 1.02
LEAST = 1e-9  # scores of 0 have no ratio
COVERED = {"at least 200 rows": (0.86, 0.94), "fewer": (0.84, 1.0)}
SCORE_NAMES = {"rmse": "RMSE", "crps": "CRPS"}


def label(record: Record) -> str:
    """Return the name of a method with the settings that are not its defaults."""
    params = ", ".join(f"{key}={value!r}" for key, value in record["params"].items())
    return f"{record['method']} ({params})" if params else record["method"]


def in_order(values: Iterable[str]) -> list[str]:
    """Return values once each, in the order of their first appearance."""
    return list(dict.fromkeys(values))


def reference(records: list[Record]) -> str:
    """Return the method that others are compared with."""
    labels = in_order(label(r) for r in records)
    ours = [name for name in labels if name.startswith("qavi")]
    return "qavi" if "qavi" in labels else (ours or labels)[0]


def mean_scores(records: list[Record], name: str) -> Scores:
    """Return means over seeds, of tables for which a method has all seeds of the reference.

    Geometric means of errors, so that one seed with an extreme value does not decide. A method
    that failed or ran out of time with one of the seeds gets infinity.
    """
    base = reference(records)
    seeds: dict[str, set[int]] = {}
    values: dict[tuple[str, str], dict[int, float | None]] = {}
    for r in records:
        if label(r) == base:
            seeds.setdefault(r["table"], set()).add(r["seed"])
        failed = "error" in r or "timeout" in r
        cell = values.setdefault((label(r), r["table"]), {})
        cell[r["seed"]] = np.inf if failed else r.get(name)
    scores: Scores = {method: {} for method in in_order(label(r) for r in records)}
    for (method, table), by_seed in values.items():
        wanted = [by_seed.get(seed) for seed in seeds.get(table, ())]
        if wanted and None not in wanted:
            floored = np.maximum(wanted, LEAST)
            is_error = name in SCORE_NAMES
            mean = np.exp(np.log(floored).mean()) if is_error else floored.mean()
            scores[method][table] = float(mean)
    return scores


def shared_tables(scores: Scores) -> list[str]:
    """Return the tables for which all methods have scores, which at least one of them is finite."""
    methods = [s for s in scores.values() if s]
    tables = [t for t in methods[0] if all(t in s for s in methods)] if methods else []
    return [t for t in tables if any(np.isfinite(s[t]) for s in methods)]


def score_matrix(scores: Scores) -> tuple[list[str], list[str], NDArray[np.float64]]:
    """Return methods, shared tables, and the scores, one row per table."""
    methods = [m for m, s in scores.items() if s]
    tables = shared_tables(scores)
    matrix = np.array([[scores[m][t] for m in methods] for t in tables])
    return methods, tables, matrix.reshape(len(tables), len(methods))


def mean_ranks(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return mean ranks of the columns; 1 is the smallest score."""
    return rankdata(matrix, axis=1).mean(axis=0)


def critical_difference(n_methods: int, n_tables: int) -> float:
    """Return the difference of mean ranks that Nemenyi's test takes as one."""
    quantile = studentized_range.ppf(1 - LEVEL, n_methods, np.inf) / np.sqrt(2)
    return float(quantile * np.sqrt(n_methods * (n_methods + 1) / (6 * n_tables)))


def ratio_line(method: str, scores: Scores, base: str, ranks: dict[str, float]) -> str:
    """Return one line of the table of comparisons."""
    mine = scores[method]
    both = [t for t in mine if np.isfinite([mine[t], scores[base].get(t, np.inf)]).all()]
    logs = [np.log(mine[t] / scores[base][t]) for t in both]
    best = {t: min(s[t] for s in scores.values() if t in s) for t in mine}
    ended = [t for t in mine if np.isfinite(mine[t])]
    near = sum(mine[t] <= NEAR * best[t] for t in ended)
    worst = max(ended, key=lambda t: mine[t] / best[t], default=None)
    cells = [
        f"{np.exp(np.mean(logs)):.3f}" if logs else "-",
        f"{sum(x < 0 for x in logs)} of {len(logs)}" if method != base else "",
        str(sum(mine[t] == best[t] for t in ended)),
        f"{near / len(mine):.0%}" if mine else "-",
        f"{ranks[method]:.2f}" if method in ranks else "-",
        f"{mine[worst] / best[worst]:.2f} ({worst})" if worst else "-",
        str(len(mine) - len(ended)),
    ]
    return f"| {method} | " + " | ".join(cells) + " |"


def comparison(records: list[Record], name: str) -> list[str]:
    """Return the table of comparisons for one score, and what the ranks say."""
    scores = mean_scores(records, name)
    methods, tables, matrix = score_matrix(scores)
    ranks = dict(zip(methods, mean_ranks(matrix), strict=True)) if tables else {}
    base = reference(records)
    points = {label(r) for r in records if not r.get("has_draws", True)}
    names = ["method", f"ratio to {base}", f"better than {base}", "best", "within 2% of the best"]
    names += ["mean rank", "worst ratio to the best", "failed"]
    lines = ["", f"**{SCORE_NAMES[name]}**", "", f"| {' | '.join(names)} |"]
    lines += ["|---" * len(names) + "|"]
    for method in sorted(methods, key=lambda m: ranks.get(m, 0.0)):
        line = ratio_line(method, scores, base, ranks)
        mark = f"| {method} * |" if name == "crps" and method in points else f"| {method} |"
        lines.append(line.replace(f"| {method} |", mark, 1))
    return [*lines, "", friedman_text(matrix)]


def friedman_text(matrix: NDArray[np.float64]) -> str:
    """Return what Friedman's test and Nemenyi's difference say of a matrix of scores."""
    n_tables, n_methods = matrix.shape
    if n_methods < 3 or n_tables < 2:
        return (
            f"Ranks of {plural(n_methods, 'method')} on {plural(n_tables, 'table')}: "
            "too few for a test."
        )
    # a failure takes the last rank
    ranks = rankdata(matrix, axis=1)
    p = friedmanchisquare(*ranks.T).pvalue
    difference = critical_difference(n_methods, n_tables)
    return (
        f"Ranks on the {n_tables} tables that all {n_methods} methods have; Friedman's test: "
        f"p = {p:.2g}; critical difference (Nemenyi, {LEVEL:.0%}): {difference:.2f}."
    )


def other_scores(records: list[Record]) -> list[str]:
    """Return means over tables of what is not compared table by table."""
    names = {"accuracy": 3, "brier": 3, "coverage": 3, "width": 2, "seconds": 1}
    lines = ["", "| method | tables | " + " | ".join(names) + " | longest s |", "|---" * 8 + "|"]
    for method in in_order(label(r) for r in records):
        mine = [r for r in records if label(r) == method and "seconds" in r]
        cells = [str(len({r["table"] for r in mine}))]
        for name, digits in names.items():
            known = [r[name] for r in mine if r.get(name) is not None]
            cells.append(f"{np.mean(known):.{digits}f}" if known else "-")
        longest = max((r["seconds"] for r in mine), default=None)
        cells.append("-" if longest is None else f"{longest:.0f}")
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return lines


def in_short(records: list[Record]) -> list[str]:
    """Return one line a method: our scores over its, on how many tables ours are lower, its time.

    Means are geometric, and of the tables that both completed.
    """
    base = reference(records)
    scores = {name: mean_scores(records, name) for name in [*SCORE_NAMES, "seconds", "coverage"]}
    lines = [
        "| method | tables | CRPS, ours over its | lower on | RMSE, ours over its | lower on | "
        "its 90% intervals hold | its time over ours |",
        "|---" * 8 + "|",
    ]
    for method in in_order(label(r) for r in records):
        ours, its = scores["crps"][base], scores["crps"][method]
        both = [t for t in its if np.isfinite([its[t], ours.get(t, np.inf)]).all()]
        if not both:
            continue
        cells = [method, str(len(both))]
        for name in ("crps", "rmse"):
            logs = [np.log(scores[name][base][t] / scores[name][method][t]) for t in both]
            lower = str(sum(x < 0 for x in logs))
            cells += ["", ""] if method == base else [f"{np.exp(np.mean(logs)):.2f}", lower]
        covered = [v for t, v in scores["coverage"][method].items() if t in both]
        cells.append(f"{np.mean(covered):.2f}" if covered else "")
        times = [scores["seconds"][method][t] / scores["seconds"][base][t] for t in both]
        cells.append(f"{np.exp(np.log(times).mean()):.2g}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def by_table(records: list[Record], name: str) -> list[str]:
    """Return one score of all methods, table by table."""
    scores = mean_scores(records, name)
    methods = [m for m, s in scores.items() if any(np.isfinite(list(s.values())))]
    rows = {r["table"]: r["rows"] for r in records if "rows" in r}
    lines = [f"| table | rows | {' | '.join(methods)} |", "|---" * (len(methods) + 2) + "|"]
    for table in in_order(r["table"] for r in records):
        texts = [value_text(scores[m].get(table), name, rows.get(table, 0)) for m in methods]
        lines.append(f"| {table} | {rows.get(table, '-')} | {' | '.join(texts)} |")
    return lines


def value_text(value: float | None, name: str, rows: int) -> str:
    """Return a score; coverage outside of what is right is in bold."""
    if value is None:
        return "-"
    if not np.isfinite(value):
        return "failed"
    low, high = COVERED["at least 200 rows" if rows >= 200 else "fewer"]
    is_flagged = name == "coverage" and not low <= value <= high
    return f"**{value:.3f}**" if is_flagged else f"{value:.3f}"


def flagged(records: list[Record]) -> list[str]:
    """Return on how many tables the coverage of each method is outside of what is right."""
    rows = {r["table"]: r["rows"] for r in records if "rows" in r}
    lines = []
    for method, scores in mean_scores(records, "coverage").items():
        values = {t: v for t, v in scores.items() if np.isfinite(v)}
        if values:
            wrong = [t for t, v in values.items() if "*" in value_text(v, "coverage", rows[t])]
            lines.append(
                f"- {method}: {len(wrong)} of {len(values)}{': ' if wrong else ''}"
                + ", ".join(f"{t} {values[t]:.2f}" for t in wrong)
            )
    return lines


def failures(records: list[Record]) -> list[str]:
    """Return what was not completed, and why."""
    lines = []
    for r in records:
        reason = f"over {r['timeout']:.0f} s" if "timeout" in r else r.get("error")
        if reason:
            lines.append(f"- {r['table']}, {r['protocol']}, seed {r['seed']}, {label(r)}: {reason}")
    return ["", "## Failed", "", *lines] if lines else []


def plural(n: int, noun: str) -> str:
    """Return a number of things."""
    return f"{n} {noun}{'s' * (n != 1)}"


def summary(records: list[Record], n_draws: int) -> str:
    """Return everything as Markdown."""
    lines = ["# Panel"]
    for protocol in in_order(r["protocol"] for r in records):
        mine = [r for r in records if r["protocol"] == protocol]
        lines += ["", f"## {protocol}", "", plural(len({r["table"] for r in mine}), "table")]
        lines[-1] += f", {plural(len({r['seed'] for r in mine}), 'seed')}."
        lines += ["", *in_short(mine)]
        for name in SCORE_NAMES:
            lines += comparison(mine, name)
        lines += other_scores(mine)
        for name, title in {**SCORE_NAMES, "coverage": "Coverage"}.items():
            lines += ["", f"**{title} by table**", "", *by_table(mine, name)]
        lines += ["", "Coverage outside of .86 to .94 (below .84 with fewer than 200 rows):", ""]
        lines += flagged(mine)
    lines += failures(records)
    lines += ["", f"\\* one answer: its absolute error. CRPS and coverage are of {n_draws} draws."]
    lines += ["A method that failed has the last rank on that table, and no ratio."]
    return "\n".join(lines)


def groups_of(ranks: NDArray[np.float64], difference: float) -> list[tuple[float, float]]:
    """Return the first and last rank of each largest group that does not differ; ranks sorted."""
    groups: list[tuple[float, float]] = []
    for first in ranks:
        last = ranks[ranks <= first + difference].max()
        if last > first and not (groups and groups[-1][1] >= last):
            groups.append((float(first), float(last)))
    return groups


def draw_ranks(axes: Any, methods: list[str], ranks: NDArray[np.float64], n_tables: int) -> None:
    """Draw mean ranks on a line, names at both sides, and bars over groups that do not differ."""
    order = np.argsort(ranks)
    names, ranks = [methods[k] for k in order], ranks[order]
    n = len(names)
    difference = critical_difference(n, n_tables)
    axes.set_xlim(1 - 0.75 * (n - 1), n + 0.75 * (n - 1))
    axes.plot([1, n], [0, 0], color="black", linewidth=1)
    for tick in range(1, n + 1):
        axes.plot([tick, tick], [0, 0.15], color="black", linewidth=1)
        axes.text(tick, 0.25, str(tick), ha="center", va="bottom", fontsize=8)
    groups = groups_of(ranks, difference)
    for level, (first, last) in enumerate(groups):
        height = -0.3 - 0.3 * level
        axes.plot([first - 0.03, last + 0.03], [height] * 2, color="tab:red", linewidth=2.5)
    below = -0.3 * len(groups) - 0.6
    half = (n + 1) // 2
    for k, (name, rank) in enumerate(zip(names, ranks, strict=True)):
        is_left = k < half
        height = below - 0.55 * (k if is_left else n - 1 - k)
        end = 1 - 0.06 * (n - 1) if is_left else n + 0.06 * (n - 1)
        axes.plot([rank, rank, end], [0, height, height], color="0.45", linewidth=0.8)
        text = f"{name}  {rank:.2f}" if is_left else f"{rank:.2f}  {name}"
        axes.text(end, height, f" {text} ", ha="right" if is_left else "left", va="center", size=8)
    axes.plot([1, 1 + difference], [1.15] * 2, color="black", linewidth=1.5)
    for end in (1, 1 + difference):
        axes.plot([end, end], [1.05, 1.25], color="black", linewidth=1.5)
    axes.set_title(f"{axes.get_title()}; critical difference {difference:.2f}", fontsize=10)
    axes.set_ylim(below - 0.55 * half, 1.5)


def short_names(labels: list[str]) -> dict[str, str]:
    """Return names without settings: a second setting of qavi is "qavi 2"."""
    settings = [name for name in labels if "(" in name]
    first = 2 if "qavi" in labels else 1
    short = {name: f"{name.split(' (')[0]} {k}" for k, name in enumerate(settings, start=first)}
    return {name: short.get(name, name) for name in labels}


def save_figure(records: list[Record], path: Path) -> None:
    """Draw a critical-difference diagram for each protocol and score."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    protocols = in_order(r["protocol"] for r in records)
    names = short_names(in_order(label(r) for r in records))
    notes = [f"{short}: {name}" for name, short in names.items() if name != short]
    heights = (1.6 + 0.17 * len(names)) * len(protocols), 0.2 + 0.17 * len(notes)
    figure, panels = plt.subplots(len(protocols), 2, figsize=(13, sum(heights)), squeeze=False)
    for row, protocol in zip(panels, protocols, strict=True):
        mine = [r for r in records if r["protocol"] == protocol]
        for axes, (name, title) in zip(row, SCORE_NAMES.items(), strict=True):
            methods, tables, matrix = score_matrix(mean_scores(mine, name))
            axes.axis("off")
            axes.set_title(f"{protocol}, {title}, {len(tables)} tables", fontsize=10)
            if len(tables) > 1 and len(methods) > 2:
                shown = [names[method] for method in methods]
                draw_ranks(axes, shown, mean_ranks(matrix), len(tables))
    bottom = heights[1] / sum(heights)
    top = 1 - 0.4 / sum(heights)
    figure.subplots_adjust(0.01, bottom, 0.99, top, wspace=0.02, hspace=0.2)
    figure.text(0.02, 0.5 * bottom, "\n".join(notes), va="center", fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)
