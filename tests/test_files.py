"""Files that are not as they were written are refused, and places that cannot be written to."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest

from _factories import digits, tiny_imputer, tiny_layers, tiny_table_model
from sklearn_qavi import QAVIImputer, QAVIInpainter, inpaint, train
from sklearn_qavi._files import read_json, write_json, write_whole
from sklearn_qavi._persistence import load_model
from sklearn_qavi.exceptions import ModelFormatError
from sklearn_qavi.generative import WideResNetVAE
from sklearn_qavi.partitions import complete_parquet

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X = np.random.default_rng(0).normal(size=(40, 3))
INCOMPLETE = np.where(X > 0.8, np.nan, X)
FRAME = pd.DataFrame(INCOMPLETE, columns=list("abc")).assign(d=["x", None, "y", "x"] * 10)
IMAGES = digits(0, 40)


def cached(memory: Any) -> QAVIImputer:
    return tiny_imputer(generative_model=tiny_table_model(memory=memory))


def flipped(file: Path, n: int) -> Iterator[int]:
    """Flip one bit of a file after another, n of them spread over it, and put it back."""
    whole, rng = file.read_bytes(), np.random.default_rng(len(file.name))
    spread = np.linspace(0, len(whole) - 1, min(n, len(whole))).astype(int)
    for place in np.unique([*spread, *rng.integers(len(whole), size=n // 2)]):
        changed = bytearray(whole)
        changed[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(changed)
        yield int(place)
    file.write_bytes(whole)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "imputer"
    tiny_imputer().fit(FRAME).save(folder)
    return folder


class TestChecksums:
    @pytest.mark.parametrize(
        "name", ["imputer.json", "model/config.json", "model/model.safetensors"]
    )
    def test_no_flipped_bit_of_an_imputer_is_taken(self, name: str, saved: Path) -> None:
        for _ in flipped(saved / name, 400):
            with pytest.raises(ModelFormatError, match=Path(name).name):
                QAVIImputer.load(saved)
        assert QAVIImputer.load(saved).n_features_in_ == 4

    @pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
    def test_no_flipped_bit_of_a_model_is_taken(self, name: str, tmp_path: Path) -> None:
        tiny_layers().fit(IMAGES).save(tmp_path)
        for _ in flipped(tmp_path / name, 100):
            with pytest.raises(ModelFormatError, match=name):
                load_model(tmp_path)

    @pytest.mark.parametrize("name", ["training.json", "decoder_0.pt"])
    def test_no_flipped_bit_of_a_training_is_taken(self, name: str, tmp_path: Path) -> None:
        model = tiny_layers(checkpoint_folder=tmp_path)
        model.fit(IMAGES)
        for _ in flipped(tmp_path / name, 40):
            with pytest.raises(ModelFormatError, match=f"{name}.*delete it"):
                model.fit(IMAGES)
        model.fit(IMAGES)

    @pytest.mark.filterwarnings("ignore:.*while loading results")  # joblib says so
    @pytest.mark.filterwarnings("ignore:The cache in .* holds something else:UserWarning")
    def test_no_flipped_bit_of_the_cache_is_taken(self, tmp_path: Path) -> None:
        expected = cached(str(tmp_path)).fit(INCOMPLETE).transform(INCOMPLETE)
        (entry,) = tmp_path.rglob("output.pkl")
        for _ in flipped(entry, 10):
            again = cached(str(tmp_path)).fit(INCOMPLETE)
            np.testing.assert_array_equal(again.transform(INCOMPLETE), expected)

    def test_a_description_edited_by_hand_is_refused(self, saved: Path, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(saved, tmp_path / "edited"))
        config = json.loads((folder / "imputer.json").read_text())
        config["parameters"]["strategy"] = "median"
        (folder / "imputer.json").write_text(json.dumps(config, indent=2) + "\n")
        with pytest.raises(ModelFormatError, match=r"edited by hand.*set_params"):
            QAVIImputer.load(folder)
        loaded = QAVIImputer.load(saved).set_params(strategy="median")
        assert not pd.isna(loaded.transform(FRAME)).any()

    def test_the_model_of_another_imputer_is_refused(self, saved: Path, tmp_path: Path) -> None:
        tiny_imputer(random_state=1).fit(FRAME).save(tmp_path)
        shutil.copy(saved / "imputer.json", tmp_path)
        with pytest.raises(ModelFormatError, match=r"config.json is not as it was saved"):
            QAVIImputer.load(tmp_path)

    def test_numbers_come_back_to_the_bit(self, tmp_path: Path) -> None:
        content = {"a": [0.1, -0.0, 5e-324, 1.7976931348623157e308], "b": {"ü": None}, "c": 2**70}
        write_json(tmp_path / "a.json", {**content, "d": np.int64(3)})
        read = read_json(tmp_path / "a.json", "thing")
        assert repr({k: read[k] for k in content}) == repr(content)
        assert read["d"] == 3


KILLED = """
    import os, signal, sys
    import numpy as np
    from sklearn_qavi import QAVIImputer

    imputer = QAVIImputer.load(sys.argv[1])
    for k in range(4):
        if os.fork() == 0:
            calls, replace = [], os.replace

            def dies(a, b):
                if len(calls) == k:
                    os.kill(os.getpid(), signal.SIGKILL)
                calls.append(1)
                replace(a, b)

            os.replace = dies
            imputer.save(sys.argv[2 + k])
            os._exit(0)
        os.wait()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a process of its own")
def test_a_save_that_was_killed_leaves_the_old_one_or_is_refused(
    saved: Path, tmp_path: Path
) -> None:
    old, new = tiny_imputer(random_state=1).fit(FRAME), QAVIImputer.load(saved)
    folders = [tmp_path / str(k) for k in range(4)]
    for folder in folders:
        old.save(folder)
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(saved), *map(str, folders)]
    subprocess.run(command, check=True, timeout=300)
    before, after = (imputer.transform(FRAME) for imputer in (old, new))
    assert (QAVIImputer.load(folders[0]).transform(FRAME) == before).all()
    for folder in folders[1:3]:
        with pytest.raises(ModelFormatError, match="cut short while it was written"):
            QAVIImputer.load(folder)
    assert (QAVIImputer.load(folders[3]).transform(FRAME) == after).all()


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("before")

    def fails(part: Path) -> None:
        part.write_text("half")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        write_whole(file, fails)
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


@pytest.fixture(params=["file", "below a file", "/proc"])
def unusable(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a path that no folder can be at, whoever asks."""
    file = tmp_path / "taken"
    file.write_text("here first")
    if request.param == "/proc" and not Path("/proc/self").exists():
        pytest.skip("no /proc")
    places = {"file": file, "below a file": file / "a" / "b", "/proc": Path("/proc/nowhere/a")}
    return places[request.param]


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("trained before the place was looked at")

    for place in ("_table_training.race", "_image_vae.train_network"):
        monkeypatch.setattr(f"sklearn_qavi.generative.{place}", fit)


def refused(name: str, path: Path, call: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=rf"{name}='{path}' cannot be (used|written) \(.*Choose"):
        call()


@pytest.mark.usefixtures("no_training")
class TestPlaces:
    def test_memory(self, unusable: Path) -> None:
        refused("memory", unusable, lambda: cached(str(unusable)).fit(INCOMPLETE))
        model = WideResNetVAE(memory=str(unusable))
        inpainter = QAVIInpainter(generative_model=model, random_state=0)
        refused("memory", unusable, lambda: inpainter.fit(IMAGES))

    def test_checkpoints(self, unusable: Path) -> None:
        for model in (tiny_layers(), WideResNetVAE(random_state=0)):
            model.set_params(checkpoint_folder=unusable)
            refused("checkpoint_folder", unusable, lambda model=model: model.fit(IMAGES))

    def test_save(self, unusable: Path, saved: Path) -> None:
        imputer = QAVIImputer.load(saved)
        refused("folder", unusable, lambda: imputer.save(unusable))
        refused("folder", unusable, lambda: imputer.generative_model_.save(unusable))

    def test_programs(
        self, unusable: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for call, name in (
            (lambda: train.main([str(tmp_path), str(unusable)]), "model"),
            (
                lambda: train.main(
                    [str(tmp_path), str(tmp_path / "new"), "--checkpoints", str(unusable)]
                ),
                "--checkpoints",
            ),
            (lambda: inpaint.main(["model", str(tmp_path / "images"), str(unusable)]), "out"),
        ):
            with pytest.raises(SystemExit) as ended:
                call()
            error = capsys.readouterr().err
            assert ended.value.code == 1
            assert f"{name}='{unusable}' cannot be used" in error
            assert "Traceback" not in error


def test_weights_that_are_not_there_end_the_program_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch_fidelity")
    with pytest.raises(SystemExit):
        inpaint.main(["model", "images", str(tmp_path), "--inception", str(tmp_path / "no.pth")])
    assert "no.pth" in capsys.readouterr().err


class TestParquet:
    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        FRAME.to_parquet(tmp_path / "incomplete.parquet")
        return tmp_path / "incomplete.parquet"

    def test_targets_that_cannot_be_written(
        self, saved: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        imputer = QAVIImputer.load(saved)

        def transform(*args: Any, **kwargs: Any) -> None:
            raise AssertionError("imputed before the target was looked at")

        monkeypatch.setattr(QAVIImputer, "transform", transform)
        for target in (tmp_path, tmp_path / "no" / "a.parquet", source / "a.parquet"):
            refused("target", target, lambda t=target: complete_parquet(imputer, source, t))

    def test_a_file_may_be_completed_in_its_place(self, saved: Path, source: Path) -> None:
        imputer = QAVIImputer.load(saved)
        assert complete_parquet(imputer, source, source, batch_rows=7) == len(FRAME)
        completed = pd.read_parquet(source)
        np.testing.assert_array_equal(completed["a"], imputer.transform(FRAME)[:, 0].astype(float))

    def test_a_failure_leaves_the_target_as_it_was(
        self, saved: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        imputer, target = QAVIImputer.load(saved), tmp_path / "out.parquet"
        complete_parquet(imputer, source, target)
        before, transform = target.read_bytes(), QAVIImputer.transform

        def fails(self: Any, X: Any, *, row_offset: int = 0) -> Any:
            if row_offset:
                raise MemoryError
            return transform(self, X, row_offset=row_offset)

        monkeypatch.setattr(QAVIImputer, "transform", fails)
        with pytest.raises(MemoryError):
            complete_parquet(imputer, source, target, batch_rows=7)
        assert target.read_bytes() == before
        assert sorted(tmp_path.glob("out*")) == [target]


def test_a_cache_in_a_new_folder_is_made(tmp_path: Path) -> None:
    place = tmp_path / "not" / "there" / "yet"
    cached(joblib.Memory(place, verbose=0)).fit(INCOMPLETE)
    assert list(place.rglob("output.pkl"))
