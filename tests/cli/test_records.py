"""Records keep every byte of a text table, and cells mean what the csv module says they do."""

import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_qavi._cli._records import (
    _HEAD,
    Dialect,
    cell_of,
    find_dialect,
    opened_for_writing,
    read_records,
    split_cells,
    value_of,
)

TEXTS = st.text(st.sampled_from('ab1 ",;\n\r.é'), max_size=6)


def dialect_of(folder: Path, content: bytes, name: str = "a.csv") -> Dialect:
    (folder / name).write_bytes(content)
    return find_dialect(folder / name)


def written(dialect: Dialect, file: Path) -> bytes:
    """Return what comes out when records are put together again."""
    text = "".join(
        dialect.separator.join(record.cells) + record.end for record in read_records(file, dialect)
    )
    return dialect.bom + text.encode(dialect.encoding)


@given(st.lists(st.lists(TEXTS, min_size=3, max_size=3), min_size=1, max_size=4))
@settings(deadline=None, max_examples=100)
def test_tables_of_the_csv_module_are_read_as_it_reads_them(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]
) -> None:
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([["x", "y", "z"], *rows])
    file = tmp_path_factory.getbasetemp() / "table.csv"
    file.write_bytes(stream.getvalue().encode())
    dialect = Dialect(",", ".", "utf-8")
    records = list(read_records(file, dialect))
    assert [[value_of(cell) for cell in record.cells] for record in records[1:]] == rows
    assert written(dialect, file) == file.read_bytes()


@given(TEXTS)
def test_a_text_becomes_a_cell_that_stands_for_it(text: str) -> None:
    assert split_cells(cell_of(text, ";"), ";") == [cell_of(text, ";")]
    if not text.startswith(" ") or cell_of(text, ";") != text:
        assert value_of(cell_of(text, ";")) == text


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ('5" disk,3', ['5" disk', "3"]),
        ('1, "a, b" ,2', ["1", "a, b", "2"]),
        ('"a"b,c', ["ab", "c"]),
        ('"he said ""no""",,', ['he said "no"', "", ""]),
    ],
)
def test_quotes_that_are_not_as_they_should_be(line: str, values: list[str]) -> None:
    cells = split_cells(line, ",")
    assert cells is not None
    assert [value_of(cell) for cell in cells] == values
    assert ",".join(cells) == line


def test_an_open_quote_is_no_record() -> None:
    assert split_cells('1,"a', ",") is None


@pytest.mark.parametrize(
    ("content", "separator", "decimal", "encoding"),
    [
        ("a;b\n1,5;2,5\n", ";", ",", "utf-8"),
        ("a,b\n1.5,2.5\n", ",", ".", "utf-8"),
        ("a\tb\n1,5\t2\n", "\t", ",", "utf-8"),
        ("a|b,c\n1|2,3\n", "|", ",", "utf-8"),
        ('a,b\n"1;2",3\n"1;2",3\n', ",", ".", "utf-8"),
        ("a;b\n1;2,3\n1;2;3\n", ";", ",", "utf-8"),
        ("only\n1,5\n", ",", ".", "utf-8"),
    ],
)
def test_separator_and_decimal_sign_are_found(
    tmp_path: Path, content: str, separator: str, decimal: str, encoding: str
) -> None:
    found = dialect_of(tmp_path, content.encode())
    assert (found.separator, found.decimal, found.encoding) == (separator, decimal, encoding)


def test_a_head_that_ends_inside_of_a_cell_still_shows_the_separator(tmp_path: Path) -> None:
    rows = ["1,5;2,5"] * (_HEAD - 2)
    content = "\n".join(["a;b", *rows, '3,5;"a note', 'of two lines"', *rows])
    found = dialect_of(tmp_path, content.encode())
    assert (found.separator, found.decimal) == (";", ",")


@pytest.mark.parametrize(
    ("encoding", "bom", "found"),
    [
        ("utf-8", b"", "utf-8"),
        ("utf-8", b"\xef\xbb\xbf", "utf-8"),
        ("utf-16-le", b"\xff\xfe", "utf-16-le"),
        ("utf-16-be", b"\xfe\xff", "utf-16-be"),
        ("cp1252", b"", "cp1252"),
    ],
)
def test_encodings_are_found_and_kept(
    tmp_path: Path, encoding: str, bom: bytes, found: str
) -> None:
    content = bom + "name;size\r\nMünchen €;1\r\n".encode(encoding)
    dialect = dialect_of(tmp_path, content)
    assert (dialect.encoding, dialect.bom) == (found, bom)
    file = tmp_path / "a.csv"
    assert value_of(list(read_records(file, dialect))[1].cells[0]) == "München €"
    assert written(dialect, file) == content


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_and_blank_lines_stay(tmp_path: Path, end: str) -> None:
    content = end.join(["a,b", "1,2", "", '"x' + end + 'y",3', "  ", "4,5"]).encode()
    dialect = dialect_of(tmp_path, content)
    assert written(dialect, tmp_path / "a.csv") == content
    rows = [record for record in read_records(tmp_path / "a.csv", dialect) if record.cells]
    assert [record.line for record in rows] == [1, 2, 4, 7]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"\n \n", "is empty"),
        ("a.csv", b"PK\x03\x04\0\0\0", "is not a text file"),
        ("a.csv", gzip.compress(b"a,b\n", mtime=0), "is gzipped"),
        ("a.csv.gz", gzip.compress(b"a,b\n" * 99, mtime=0)[:-9], "no whole gzip file"),
        ("a.csv.gz", b"a,b\n", "no whole gzip file"),
        ("a.csv", b'a,b\n1,2\n3,"4\n5,6\n', "opened in line 3 is not closed"),
        ("a.csv", b"a,b\n1,2\n1,2,3\n", "line 3 has 3 cells, the header has 2"),
        ("a.csv", b'a,b\n"1\n\n",2\n1\n', "line 5 has 1 cell, the header has 2"),
    ],
)
def test_what_is_no_table_is_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        list(read_records(tmp_path / name, dialect_of(tmp_path, content, name)))


def test_an_encoding_that_does_not_fit_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("a,é\n".encode("cp1252"))
    with pytest.raises(ValueError, match="is not utf-8"):
        list(read_records(tmp_path / "a.csv", Dialect(",", ".", "utf-8")))
    with pytest.raises(ValueError, match="no encoding 'klingon'"):
        find_dialect(tmp_path / "a.csv", encoding="klingon")


def test_gzipped_files_are_the_same_each_time(tmp_path: Path) -> None:
    for name in ("a.gz", "b.gz"):
        with opened_for_writing(tmp_path / name, packed=True) as stream:
            stream.write(b"a,b\n")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == b"a,b\n"
