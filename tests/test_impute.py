"""`sklearn-qavi impute` as a user types it, on real files."""

import csv
import gzip
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sklearn_qavi import QAVIImputer, impute
from sklearn_qavi.__main__ import main

TINY = {
    "generative_model__max_steps": 2,
    "generative_model__n_decoders": 1,
    "generative_model__latent_dim": 2,
    "generative_model__hidden_layer_sizes": [8],
    "generative_model__likelihood": "student_t",
    "generative_model__linear_start": "false",
    "max_iter": 4,
}
PARAMS = [o for name, value in TINY.items() for o in ("--param", f"{name}={value}")]
MARKERS = ("", "?", "NA")


def table_bytes(n: int = 60) -> bytes:
    """Return a table with all that a spreadsheet of Europe writes, and a cell in ten missing."""
    rng = np.random.default_rng(0)
    lines = ["id;name;größe;temp;code;when;level;k;k"]
    for i in range(n):
        x = rng.normal()
        day = np.datetime64("2020-06-01") + int(50 * x)
        cells = [
            f"P{i:04d}",
            f'"Doe, J. {i}"',
            f"{x:.2f}".replace(".", ","),
            f"{2 * x:.1f}".replace(".", ",") + (" " if i == 5 else ""),
            f"{i % 3:03d}",
            pd.Timestamp(day).strftime("%d.%m.%Y"),
            ["low", "middle", "high"][i % 3],
            str(rng.poisson(3)),
            '"a;b"' if i % 2 else '"c ""d"""',
        ]
        for j in np.flatnonzero(rng.random(7) < 0.1) + 2:
            cells[j] = {6: "?", 7: "NA"}.get(j, "")
        lines.append(";".join(cells))
    return b"\xef\xbb\xbf" + "\r\n".join(lines).encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a table, and an imputer that was trained on it."""
    folder = tmp_path_factory.mktemp("tables")
    (folder / "in.csv").write_bytes(table_bytes())
    run(folder / "in.csv", folder / "first.csv", "--missing", "?", "--save", folder / "saved")
    return folder


def run(source: Path, out: Path, *more: object, tiny: bool = True) -> None:
    """Run the program in this process; a trained imputer needs no parameters."""
    options = [str(option) for option in more]
    params = PARAMS if tiny and "--load" not in options else []
    main(["impute", str(source), str(out), *options, *params])


def failed(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 1) -> str:
    """Return the one line that the program ends with."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["impute", *map(str, arguments)])
    assert ended.value.code == code
    error = capsys.readouterr().err
    if code == 1:
        assert error.count("\n") == 1 or error.startswith("read "), error
    return error


def again(folder: Path, out: Path, *more: object) -> None:
    """Complete the table with the trained imputer."""
    run(folder / "in.csv", out, "--missing", "?", "--load", folder / "saved", *more)


def raw_cells(content: bytes) -> list[list[str]]:
    """Return the raw cells of the table, whose quotes enclose at most one separator."""
    lines = content.decode("utf-8-sig").split("\r\n")
    return [next(csv.reader([line], delimiter=";", quoting=csv.QUOTE_MINIMAL)) for line in lines]


class TestText:
    def test_only_missing_cells_change(self, folder: Path) -> None:
        before, after = ((folder / name).read_bytes() for name in ("in.csv", "first.csv"))
        assert after.startswith(b"\xef\xbb\xbf")
        assert not after.endswith(b"\r\n")
        lines = [b.decode("utf-8-sig").split("\r\n") for b in (before, after)]
        assert len(lines[0]) == len(lines[1]) == 61
        for old, new in zip(*lines, strict=True):
            kept = old.replace(";NA", ";").replace(";?", ";").split(";")
            assert len(new) >= len(old.replace("NA", "").replace("?", ""))
            position = 0  # what stands around missing cells follows in the same order
            for piece in filter(None, kept):
                position = new.index(piece, position) + len(piece)
            if not any(marker in old.split(";") for marker in MARKERS):
                assert new == old

    def test_imputed_cells_look_like_their_neighbours(self, folder: Path) -> None:
        old, new = (raw_cells((folder / name).read_bytes()) for name in ("in.csv", "first.csv"))
        forms = {2: r"-?\d+,\d\d", 3: r"-?\d+,\d", 4: "00[012]", 5: r"\d\d\.\d\d\.20\d\d"}
        forms |= {6: "low|middle|high", 7: r"\d+", 8: 'a;b|c "d"'}
        n = 0
        for before, after in zip(old, new, strict=True):
            for j, (a, b) in enumerate(zip(before, after, strict=True)):
                if a.strip() in MARKERS:
                    n += 1
                    assert pd.Series([b]).str.fullmatch(forms[j]).all(), (j, b)
                else:
                    assert a == b
        assert n > 30

    def test_they_are_what_the_imputer_says(self, folder: Path) -> None:
        old, new = (
            pd.read_csv(folder / name, sep=";", decimal=",", na_values=["?"], dtype={"code": str})
            for name in ("in.csv", "first.csv")
        )
        imputer = QAVIImputer.load(folder / "saved").set_output(transform="pandas")
        frame = pd.DataFrame({"größe": old["größe"], "temp": old["temp"], "code": old["code"]})
        frame["when"] = pd.to_datetime(old["when"], format="%d.%m.%Y")
        frame = frame.assign(level=old["level"]).assign(**{"#8": old["k"], "#9": old["k.1"]})
        with pytest.warns(Warning, match="not converged"):
            expected = imputer.transform(frame)
        np.testing.assert_allclose(new["größe"], expected["größe"], atol=0.00501)
        np.testing.assert_allclose(new["temp"], expected["temp"], atol=0.0501)
        np.testing.assert_array_equal(new["k"], expected["#8"])
        assert new["code"].tolist() == expected["code"].tolist()

    def test_what_was_read_is_said(
        self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        again(folder, tmp_path / "out.csv")
        said = capsys.readouterr()
        assert said.out == ""
        assert "60 rows, 9 columns, separated by ';', decimal comma, UTF-8 with BOM" in said.err
        assert "column 'name' is passed on as it is: so it was in training" in said.err
        again(folder, tmp_path / "out.csv", "--force", "--quiet")
        assert capsys.readouterr().err == ""

    def test_a_saved_imputer_gives_the_same_bytes_in_any_parts(
        self, folder: Path, tmp_path: Path
    ) -> None:
        again(folder, tmp_path / "out.csv", "--chunk", "25")
        assert (tmp_path / "out.csv").read_bytes() == (folder / "first.csv").read_bytes()

    def test_draws_in_one_file_or_several_and_in_parts(self, folder: Path, tmp_path: Path) -> None:
        again(folder, tmp_path / "long.csv", "--n", "3", "--intervals")
        again(folder, tmp_path / "parts.csv", "--n", "3", "--chunk", "25", "--intervals", ".9")
        again(folder, tmp_path / "draw{}.csv.gz", "--n", "3", "--intervals=0.9")
        long = (tmp_path / "long.csv").read_bytes()
        assert (tmp_path / "parts.csv").read_bytes() == long
        header, *rows = long.decode("utf-8-sig").split("\r\n")
        assert header.startswith("draw;id;name")
        assert header.endswith(";k_low;k_high")
        for k in range(3):
            content = gzip.decompress((tmp_path / f"draw{k + 1}.csv.gz").read_bytes())
            own = content.decode("utf-8-sig").split("\r\n")
            assert own[0] == header.removeprefix("draw;")
            assert [f"{k + 1};{row}" for row in own[1:]] == rows[60 * k : 60 * (k + 1)]
        assert sorted(p.name for p in tmp_path.iterdir()) == [
            *(f"draw{k}.csv.gz" for k in (1, 2, 3)),
            "long.csv",
            "parts.csv",
        ]

    def test_intervals_stand_beside_imputed_numbers_and_dates_alone(
        self, folder: Path, tmp_path: Path
    ) -> None:
        again(folder, tmp_path / "wide.csv", "--intervals", "0.99")
        again(folder, tmp_path / "narrow.csv", "--intervals", "0.5")
        old = raw_cells((folder / "in.csv").read_bytes())
        wide, narrow = (raw_cells((tmp_path / f"{n}.csv").read_bytes()) for n in ("wide", "narrow"))
        limits = wide[0][9:]
        assert limits == [
            f"{n}_{end}" for n in ("größe", "temp", "when", "k") for end in ("low", "high")
        ]
        widths = []
        for before, outer, inner in zip(old[1:], wide[1:], narrow[1:], strict=True):
            for place, j in enumerate((2, 3, 5, 7)):
                pair = outer[9 + 2 * place : 11 + 2 * place]
                assert (pair == ["", ""]) == (before[j].strip() not in MARKERS)
                if j == 2 and all(pair):
                    own = [float(t.replace(",", ".")) for t in (*pair, *inner[9:11])]
                    widths.append((own[1] - own[0], own[3] - own[2]))
        assert all(w > n > 0 for w, n in widths)
        assert widths

    def test_tabs_for_semicolons(self, folder: Path, tmp_path: Path) -> None:
        again(folder, tmp_path / "out.tsv")
        stream = io.StringIO((tmp_path / "out.tsv").read_bytes().decode("utf-8-sig"), newline="")
        rows = list(csv.reader(stream, delimiter="\t"))
        assert rows == raw_cells((folder / "first.csv").read_bytes())

    def test_nothing_missing_is_a_copy(
        self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run(folder / "first.csv", tmp_path / "out.csv")
        assert "nothing is missing; OUT is a copy" in capsys.readouterr().err
        assert (tmp_path / "out.csv").read_bytes() == (folder / "first.csv").read_bytes()
        run(folder / "first.csv", tmp_path / "twice.csv", "--n", "2")
        rows = (tmp_path / "twice.csv").read_text("utf-8-sig").splitlines()
        assert len(rows) == 121
        run(folder / "first.csv", tmp_path / "draw{}.csv", "--n", "1")
        assert (tmp_path / "draw1.csv").read_bytes() == (folder / "first.csv").read_bytes()

    def test_types_bounds_and_columns_without_a_value(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        rows = [f"{i % 7},{'' if i % 4 else 50 + i},{i % 2},,{i}" for i in range(40)]
        (tmp_path / "in.csv").write_text("\n".join(["a,b,c,none,n", *rows, ""]) + "\n")
        options = ["--types", "a=real,c=nominal", "--bounds", "b=58:60", "--ignore", "n"]
        run(tmp_path / "in.csv", tmp_path / "out.csv", *options)
        said = capsys.readouterr().err
        assert "column 'none' holds no value and stays empty" in said
        assert "column 'n' is passed on as it is: --ignore says so" in said
        text = (tmp_path / "out.csv").read_text()
        assert text.endswith("39\n\n")
        table = pd.read_csv(tmp_path / "out.csv")
        imputed = table["b"][pd.read_csv(tmp_path / "in.csv")["b"].isna()]
        assert imputed.between(58, 60).all()
        assert table["none"].isna().all()

    def test_files_without_names(self, tmp_path: Path) -> None:
        rows = [f"{i % 5},{'' if i % 4 == 0 else i * 1.5}" for i in range(30)]
        (tmp_path / "in.csv").write_text("\n".join(rows))
        run(tmp_path / "in.csv", tmp_path / "out.csv", "--no-header", "--types", "#2=positive")
        table = pd.read_csv(tmp_path / "out.csv", header=None)
        assert table.shape == (30, 2)
        assert (table[1] >= 0).all()
        assert table[1].notna().all()


class TestOtherFiles:
    @pytest.mark.parametrize("suffix", ["parquet", "feather", "xlsx"])
    def test_types_stay_and_only_missing_cells_change(self, tmp_path: Path, suffix: str) -> None:
        if suffix == "xlsx":
            pytest.importorskip("openpyxl")
        whole = pd.Series([1, 2, None, 4, 5, None] * 10, dtype="Int64")
        days = pd.to_datetime(["2020-01-01", None, "2021-01-01"] * 20)
        frame = pd.DataFrame({"whole": whole, "text": ["x", "y", None] * 20, "day": days})
        frame["half"] = [1.25, None, 2.5] * 20
        frame["flag"] = [True, None, False] * 20
        frame["id"] = [f"i{k}" for k in range(60)]
        source, out = tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}"
        write = {"parquet": frame.to_parquet, "feather": frame.to_feather}
        write.get(suffix, lambda file: frame.to_excel(file, index=False))(source)
        run(source, out, "--intervals")
        read = {"parquet": pd.read_parquet, "feather": pd.read_feather}.get(suffix, pd.read_excel)
        table: Any = read(out)
        assert table.columns[:6].tolist() == frame.columns.tolist()
        assert not table[frame.columns].isna().any().any()
        for name in frame:
            shown = frame[name].notna()
            assert table[name][shown].tolist() == frame[name][shown].tolist()
            if frame[name].isna().any() and name in ("whole", "day", "half"):
                assert (table[f"{name}_low"].isna() == shown).all()
        if suffix != "xlsx":
            assert table["whole"].dtype == "int64"
            assert table["flag"].dtype == bool

    def test_from_text_and_to_text(self, folder: Path, tmp_path: Path) -> None:
        content = (folder / "in.csv").read_bytes().replace(b";k;k", b";k;l", 1)
        (tmp_path / "in.csv").write_bytes(content)
        run(tmp_path / "in.csv", tmp_path / "out.parquet", "--missing", "?", "--n", "2")
        table = pd.read_parquet(tmp_path / "out.parquet")
        assert table["draw"].tolist() == [1] * 60 + [2] * 60
        assert table["code"].str.fullmatch("00[012]").all()
        assert table["when"].dtype.kind == "M"
        table["temp"] = table["temp"].mask(table["level"] == "low")
        table.to_parquet(tmp_path / "table.parquet")
        run(tmp_path / "table.parquet", tmp_path / "out.csv")
        back = pd.read_csv(tmp_path / "out.csv", dtype={"code": str})
        assert back["code"].tolist() == table["code"].tolist()
        assert not back["temp"].isna().any()

    def test_a_library_that_is_lacking_is_named(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "in.xlsx").write_bytes(b"")
        monkeypatch.setitem(sys.modules, "openpyxl", None)
        error = failed(capsys, tmp_path / "in.xlsx", tmp_path / "out.csv")
        assert "pip install openpyxl" in error

    def test_a_file_that_is_not_what_its_name_says(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "in.parquet").write_bytes(b"nothing")
        assert "cannot be read as parquet" in failed(
            capsys, tmp_path / "in.parquet", tmp_path / "out.csv"
        )


class TestRefusals:
    def test_files_that_cannot_be(
        self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        source, out = folder / "in.csv", tmp_path / "out.csv"
        (folder / "draws.csv").write_text("draw,x\n" + "1,2\n3,\n" * 9)
        cases: list[tuple[Sequence[object], str]] = [
            ((tmp_path / "no.csv", out), "does not exist"),
            ((source, tmp_path / "no" / "out.csv"), "no does not exist"),
            ((source, source), "is IN itself"),
            ((source, source, "--force"), "is IN itself"),
            ((source, folder / "first.csv"), "--force overwrites it"),
            ((source, tmp_path / "out.doc"), "does not say the format"),
            ((source, tmp_path / "out{}.csv"), "--n says how many"),
            ((source, out, "--report", folder / "first.csv"), "--force overwrites it"),
            ((source, out, "--save", folder), "is not empty"),
            ((source, out, "--load", tmp_path), "not a saved imputer"),
            ((source, out, "--types", "size=real"), "which is no column"),
            ((folder / "draws.csv", out, "--n", "2", *PARAMS), "called 'draw' already"),
            ((source, out, "--encoding", "ascii"), "--encoding says what it is"),
            ((source, out, "--param", "depth=3"), "depth"),
            ((source, out, "--types", "level=real"), "is no number"),
        ]
        for arguments, message in cases:
            assert message in failed(capsys, *arguments), arguments
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "is empty"),
            (b"a,b\n1,2\n1,2,3\n", "line 3 has 3 cells, the header has 2"),
            (b"\x00\x01", "is not a text file"),
            (b"a,b\n1,\n2,3\n", "at least 5 rows"),
        ],
    )
    def test_tables_that_cannot_be(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, message: str
    ) -> None:
        (tmp_path / "in.csv").write_bytes(content)
        error = failed(capsys, tmp_path / "in.csv", tmp_path / "out.csv", "--quiet")
        assert message in error
        assert [file.name for file in tmp_path.iterdir()] == ["in.csv"]

    def test_other_columns_than_in_training(
        self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        content = (folder / "in.csv").read_bytes().replace(b";temp;", b";heat;", 1)
        (tmp_path / "in.csv").write_bytes(content)
        arguments = (tmp_path / "in.csv", tmp_path / "out.csv", "--load", folder / "saved")
        error = failed(capsys, *arguments)
        assert "it lacks ['temp'], ['heat'] are new" in error

    def test_wrong_usage(self, capsys: pytest.CaptureFixture[str]) -> None:
        for options in (["--n", "0"], ["--intervals=2"], ["--separator", "ab"], ["--what"]):
            assert "usage: " in failed(capsys, "in.csv", "out.csv", *options, code=2)
        assert "sklearn-qavi impute" in failed(capsys, code=2)


@pytest.mark.parametrize("n_done", [0, 1])
def test_an_interrupt_leaves_what_was_there(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_done: int
) -> None:
    (tmp_path / "draw1.csv").write_text("old")
    calls: list[int] = []
    original = impute._completed

    def dies(*args: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) > n_done:
            raise KeyboardInterrupt
        return original(*args, **more)

    monkeypatch.setattr(impute, "_completed", dies)
    with pytest.raises(SystemExit) as ended:
        again(folder, tmp_path / "draw{}.csv", "--n", "2", "--chunk", "30", "--force")
    assert ended.value.code == 130
    assert [file.name for file in tmp_path.iterdir()] == ["draw1.csv"]
    assert (tmp_path / "draw1.csv").read_text() == "old"


class TestAsTyped:
    """The program in a process of its own."""

    def test_it_completes_a_table(self, folder: Path, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "sklearn_qavi", "impute", "in.csv", "out.csv"]
        done = subprocess.run(
            [*command, "--missing", "?", *PARAMS],
            cwd=self.place(folder, tmp_path),
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        assert done.stdout == ""
        assert (tmp_path / "out.csv").read_bytes() == (folder / "first.csv").read_bytes()

    def test_control_c_while_it_trains(self, folder: Path, tmp_path: Path) -> None:
        # so many that their first steps take longer than the wait below
        endless = [*PARAMS, "--param", "generative_model__n_decoders=1000"]
        command = [sys.executable, "-m", "sklearn_qavi", "impute", "in.csv", "out.csv", *endless]
        place = self.place(folder, tmp_path)
        with subprocess.Popen(command, cwd=place, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if line.startswith("training"):
                    break
            time.sleep(1.0)
            process.send_signal(signal.SIGINT)
            error = process.stderr.read()
        assert process.returncode == 130, error
        assert "python -m sklearn_qavi impute: interrupted; no file was left" in error
        assert os.listdir(tmp_path) == ["in.csv"]

    @staticmethod
    def place(folder: Path, tmp_path: Path) -> Path:
        """Return a folder with the table in it."""
        (tmp_path / "in.csv").write_bytes((folder / "in.csv").read_bytes())
        return tmp_path
