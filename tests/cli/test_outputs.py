"""What is written differs from what was read in missing cells alone, whatever the table."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_qavi._cli._columns import Reading
from sklearn_qavi._cli._options import DEFAULT_MARKERS, Wishes
from sklearn_qavi._cli._outputs import Output, files_of, make_output
from sklearn_qavi._cli._records import read_records, value_of
from sklearn_qavi._cli._tables import TextTable

MISSING = ["", " ", '""', *DEFAULT_MARKERS[:2]]
NUMBERS = st.sampled_from([*MISSING, "1,5", "-2", " 3,25 ", '"4"', "1e3", "+7"])
TEXTS = st.sampled_from([*MISSING, "a", " b", '"c;d"', '"e ""f"""', '"two\nlines"', "007", "é"])
ROWS = st.lists(st.tuples(NUMBERS, TEXTS, TEXTS), min_size=1, max_size=12)


def table_of(file: Path, rows: list[tuple[str, ...]], *, bom: bool, last: str) -> TextTable:
    lines = ["x;y;y", *(";".join(row) for row in rows)]
    content = "\r\n".join(lines) + last
    file.write_bytes((b"\xef\xbb\xbf" if bom else b"") + content.encode())
    return TextTable.open(file, Wishes.read, separator=";", decimal=",", encoding=None)


def filled(column: Reading, values: "pd.Series") -> "pd.Series":
    """Return a column with something in missing cells that another cell may not hold."""
    return values.fillna(8.0 if column.kind == "number" else "put;in")


def write(table: TextTable, output: Output, n_rows: int, n_draws: int) -> None:
    with output:
        for part in table.parts(n_rows):
            columns = {c.name: filled(c, part.frame[c.name]) for c in table.modelled}
            frame = pd.DataFrame(columns, index=range(len(part)))
            output.write(part, [frame] * n_draws, None)


@given(ROWS, st.booleans(), st.sampled_from(["", "\r\n", "\r\n\r\n"]), st.integers(1, 5))
@settings(deadline=None, max_examples=150)
def test_only_missing_cells_change(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, ...]],
    bom: bool,
    last: str,
    n_rows: int,
) -> None:
    folder = tmp_path_factory.getbasetemp()
    table = table_of(folder / "in.csv", rows, bom=bom, last=last)
    write(table, make_output(table, [folder / "out.csv"], None, [], apart=False), n_rows, 1)
    kinds = {column.position: column.kind for column in table.columns}
    pairs = zip(
        read_records(folder / "in.csv", table.dialect),
        read_records(folder / "out.csv", table.dialect),
        strict=True,
    )
    for old, new in pairs:
        assert new.end == old.end
        for j, (before, after) in enumerate(zip(old.cells, new.cells, strict=True)):
            is_missing = value_of(before).strip() in ("", *DEFAULT_MARKERS)
            if not is_missing or kinds[j] in ("empty", "ignored"):
                assert after == before
            else:
                assert value_of(after).strip().rstrip("0").rstrip(",") in ("8", "put;in")
    assert (folder / "out.csv").read_bytes().startswith(b"\xef\xbb\xbf") == bom


@pytest.mark.parametrize("last", ["", "\r\n"])
def test_draws_below_one_another_have_lines_of_their_own(tmp_path: Path, last: str) -> None:
    rows = [("1", "a", "b"), ("", "a", "b")]
    table = table_of(tmp_path / "in.csv", rows, bom=True, last=last)
    output = make_output(table, [tmp_path / "out.csv"], 3, [], apart=False)
    write(table, output, 1, 3)
    text = (tmp_path / "out.csv").read_bytes().decode()
    expected = ["\ufeffdraw;x;y;y"]
    expected += [row for k in (1, 2, 3) for row in (f"{k};1;a;b", f"{k};8;a;b")]
    assert text == "\r\n".join(expected) + last
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.csv", "out.csv"]


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    table = table_of(tmp_path / "in.csv", [("1", "a", "b")], bom=False, last="")
    (tmp_path / "out.csv").write_text("old")
    output = make_output(table, [tmp_path / "out.csv"], 2, [], apart=False)
    with pytest.raises(KeyboardInterrupt), output:
        raise KeyboardInterrupt
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.csv", "out.csv"]
    assert (tmp_path / "out.csv").read_text() == "old"


def test_signs_that_the_encoding_lacks_are_named(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes("x;y\n1;\n2;é\n".encode("latin-1"))
    table = TextTable.open(
        tmp_path / "in.csv", Wishes.read, separator=";", decimal=None, encoding="latin-1"
    )
    output = make_output(table, [tmp_path / "out.csv"], None, [], apart=False)
    (part,) = table.parts(10)
    with pytest.raises(ValueError, match="'☃' cannot be written"), output:
        output.write(part, [part.frame.assign(y="☃")], None)


def test_names_of_files() -> None:
    assert files_of(Path("a/b.csv"), 3) == [Path("a/b.csv")]
    assert files_of(Path("{}/b-{}.csv"), 2) == [Path("{}/b-1.csv"), Path("{}/b-2.csv")]
