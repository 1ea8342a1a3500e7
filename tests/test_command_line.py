"""The programs of images, from a folder to completed ones, and what a kill leaves of them."""

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from _factories import digits, tiny_layers, train_options
from sklearn_qavi import QAVIInpainter, inpaint, train
from sklearn_qavi.__main__ import main
from sklearn_qavi.datasets import ImageFiles, read_image, write_image
from sklearn_qavi.generative import HierarchicalVAE
from sklearn_qavi.inference import Hierarchical
from sklearn_qavi.metrics import frechet_distance, p_ids

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

OPTIONS = train_options(steps=6)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of digits in colour, some in a subfolder."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "more").mkdir()
    for i, image in enumerate(digits(0, 40)):
        tint = np.array([1.0, 0.8, 0.5])[:, None, None]
        place = folder / "more" if i >= 30 else folder
        write_image(tint * image, place / f"digit{i:02d}.png")
    return folder


@pytest.fixture(scope="module")
def model(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    run_train(photos, folder, "--epochs", "2")
    return folder


def run_train(photos: Path, folder: Path, *more: str) -> None:
    train.main([str(photos), str(folder), "--workers", "0", *OPTIONS, *more])


def run_inpaint(model: Path, photos: Path, out: Path, *more: str) -> dict[str, Any]:
    quick = ["--score-draws", "5", "--device", "cpu", "--param", "max_iter=8"]
    inpaint.main([str(model), str(photos), str(out), *quick, *more])
    scores: dict[str, Any] = json.loads((out / "scores.json").read_text())
    return scores


def test_the_script_of_the_package_exists() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))
    target = EntryPoint("sklearn-qavi", project["project"]["scripts"]["sklearn-qavi"], "").load()
    with pytest.raises(SystemExit) as ended:
        target(["--version"])
    assert ended.value.code == 0


def test_programs_are_named_as_they_were_called(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("train", "inpaint", "impute"):
        for call, shown in (
            (lambda: main([name, "--what"]), f"sklearn-qavi {name}"),  # noqa: B023
            (
                lambda: import_module(f"sklearn_qavi.{name}").main(["--what"]),  # noqa: B023
                f"python -m sklearn_qavi.{name}",
            ),
        ):
            with pytest.raises(SystemExit) as ended:
                call()
            assert ended.value.code == 2
            assert capsys.readouterr().err.startswith(f"usage: {shown} ")
    with pytest.raises(SystemExit) as ended:
        main(["paint"])
    assert ended.value.code == 2


class TestTrain:
    def test_it_trains_what_the_class_trains(self, photos: Path, model: Path) -> None:
        ours = tiny_layers(preset="cifar10", width=8, rounds=2, steps=6).fit(ImageFiles(photos))
        loaded = HierarchicalVAE.load(model)
        for a, b in zip(
            ours.decoders_[0].parameters(), loaded.decoders_[0].parameters(), strict=True
        ):
            assert torch.equal(a, b)

    @pytest.mark.slow
    def test_a_killed_training_goes_on(self, photos: Path, tmp_path: Path) -> None:
        state = tmp_path / "killed" / "training" / "decoder_0.pt"
        options = ["--workers", "1", *OPTIONS]
        command = [
            sys.executable,
            "-m",
            "sklearn_qavi.train",
            str(photos),
            str(tmp_path / "killed"),
        ]
        # sums of several threads are rounded in another order than those of one
        environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
        process = subprocess.Popen(
            [*command, *options, "--epochs", "400"], env=environment, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 200
        while not state.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        n_done = len(json.loads(torch.load(state, weights_only=True)["history"]))
        assert not (tmp_path / "killed" / "config.json").exists()
        n_epochs = str(n_done + 2)
        run_train(photos, tmp_path / "killed", "--epochs", n_epochs)
        run_train(photos, tmp_path / "whole", "--epochs", n_epochs)
        resumed, whole = (HierarchicalVAE.load(tmp_path / name) for name in ("killed", "whole"))
        assert resumed.n_iter_ == n_done + 2
        for a, b in zip(
            resumed.decoders_[0].parameters(), whole.decoders_[0].parameters(), strict=True
        ):
            assert torch.equal(a, b)

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (["--param", "width=0"], "width"),
            (["--param", "depth=3"], "depth"),
            (["--preset", "ffhq"], "preset"),
            (["--size", "0"], "size must be"),
        ],
    )
    def test_errors_are_one_line(
        self,
        more: list[str],
        message: str,
        photos: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        with pytest.raises(SystemExit) as ended:
            run_train(photos, tmp_path, *more)
        assert ended.value.code == 1
        error = capsys.readouterr().err
        assert message in error
        assert "Traceback" not in error

    def test_a_folder_without_images_is_refused(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit):
            run_train(tmp_path, tmp_path / "model")
        assert "holds no image file" in capsys.readouterr().err


class TestInpaint:
    @pytest.mark.parametrize("pixel_noise", [True, False])
    def test_missing_cells_are_filled_and_the_rest_is_left(
        self, model: Path, photos: Path, tmp_path: Path, pixel_noise: bool
    ) -> None:
        masks = tmp_path / "masks"
        masks.mkdir()
        missing = np.zeros((40, 8, 8), dtype=bool)
        missing[:, 2:6] = True
        for i, mask in enumerate(missing):
            write_image(mask[None].astype(float), masks / f"{i:02d}.png")
        out = tmp_path / "out"
        more = ("--masks", str(masks), "--draws", "2", "--limit", "6", "--seed", "3")
        more += ("--param", "posterior=hierarchical", "--param", "posterior__fill=mean")
        more += () if pixel_noise else ("--no-pixel-noise",)
        scores = run_inpaint(model, photos, out, *more, "--at-a-time", "4")
        truth = ImageFiles(photos)[:6]
        drawn = np.stack([read_image(out / "draws" / f"digit{i:02d}_1.png") for i in range(6)])
        seen = np.broadcast_to(~missing[:6, None], truth.shape)
        np.testing.assert_array_equal(drawn[seen], truth[seen])
        assert np.abs(drawn - truth)[~seen].max() > 0.02
        grey = read_image(out / "incomplete" / "digit00.png")
        assert np.abs(grey[:, 2:6] - 0.5).max() < 0.01
        inpainter = QAVIInpainter(
            generative_model=HierarchicalVAE.load(model),
            posterior=Hierarchical(fill="mean"),
            max_iter=8,
            random_state=3,
        ).fit()
        expected = inpainter.sample(truth, 2, mask=missing[:6], pixel_noise=pixel_noise)[1]
        assert np.abs(np.clip(expected, 0, 1) - drawn).max() < 0.51 / 255
        log_scores = inpainter.score_missing(truth, missing[:6], n_draws=5)
        assert scores["missing_cells"] == 6 * 32 * 3
        assert scores["iwae_nats_a_cell"] == pytest.approx(log_scores["iwae"].sum() / 576, rel=1e-5)

    def test_each_image_is_inferred_once(
        self, model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows: list[int] = []
        original = Hierarchical.infer

        def noted(self: Hierarchical, decoder: Any, state: Any, x: Any, *args: Any) -> Any:
            rows.append(len(x))
            return original(self, decoder, state, x, *args)

        monkeypatch.setattr(Hierarchical, "infer", noted)
        run_inpaint(model, photos, tmp_path / "out", "--limit", "4", "--at-a-time", "3")
        assert rows == [3, 1]

    def test_it_goes_on_where_it_was_stopped(
        self, model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        more = ("--limit", "6", "--at-a-time", "2")
        whole = run_inpaint(model, photos, tmp_path / "whole", *more)
        calls: list[int] = []
        original = inpaint.complete

        def dies(*args: Any) -> None:
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            original(*args)

        monkeypatch.setattr(inpaint, "complete", dies)
        with pytest.raises(SystemExit):
            run_inpaint(model, photos, tmp_path / "out", *more)
        with (tmp_path / "out" / "images.jsonl").open("a") as file:
            file.write('{"file": "digit0')  # as a kill in the middle of a line leaves it
        assert run_inpaint(model, photos, tmp_path / "out", *more) == whole
        assert len(calls) == 4
        for file in (tmp_path / "whole").rglob("*.png"):
            other = tmp_path / "out" / file.relative_to(tmp_path / "whole")
            assert other.read_bytes() == file.read_bytes()

    def test_more_images_leave_the_first_as_they_were(
        self, model: Path, photos: Path, tmp_path: Path
    ) -> None:
        more = ("--mask-kind", "random_patches", "--limit")
        run_inpaint(model, photos, tmp_path / "out", *more, "2")
        run_inpaint(model, photos, tmp_path / "out", *more, "4")
        run_inpaint(model, photos, tmp_path / "whole", *more, "4")
        for file in (tmp_path / "whole").rglob("*.png"):
            other = tmp_path / "out" / file.relative_to(tmp_path / "whole")
            assert other.read_bytes() == file.read_bytes()

    def test_results_cannot_overwrite_each_other_or_be_taken_for_images(
        self, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = tmp_path / "same"
        (folder / "a").mkdir(parents=True)
        for name in ("a/b.png", "a_b.png"):
            write_image(np.zeros((3, 8, 8)), folder / name)
        with pytest.raises(SystemExit):
            run_inpaint(model, folder, tmp_path / "out")
        assert "called 'a_b'" in capsys.readouterr().err
        with pytest.raises(SystemExit):
            run_inpaint(model, folder, folder / "out")
        assert "lies in" in capsys.readouterr().err

    def test_other_arguments_need_another_folder(
        self, model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run_inpaint(model, photos, tmp_path, "--limit", "2")
        with pytest.raises(SystemExit):
            run_inpaint(model, photos, tmp_path, "--limit", "2", "--seed", "1")
        assert "choose another folder" in capsys.readouterr().err

    def test_the_scores_of_sets_are_those_of_the_draws(
        self, model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(inpaint, "load_inception", lambda file: torch.nn.AvgPool2d(4))
        scores = run_inpaint(
            model, photos, tmp_path, "--limit", "30", "--inception", "weights", "--folds", "5"
        )
        real = ImageFiles(photos)[:30]
        drawn = np.stack(
            [read_image(tmp_path / "draws" / f"digit{i:02d}_0.png") for i in range(30)]
        )
        pool = torch.nn.AvgPool2d(4)
        assert scores["fid"] == pytest.approx(frechet_distance(real, drawn, extractor=pool))
        assert scores["p_ids"] == pytest.approx(p_ids(real, drawn, extractor=pool, cv=5))

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (["--draws", "0"], "at least 1"),
            (["--param", "posterior=flows"], "posterior"),
            (["--masks", "nowhere"], "holds no image file"),
        ],
    )
    def test_errors_are_one_line(
        self,
        more: list[str],
        message: str,
        model: Path,
        photos: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        with pytest.raises(SystemExit) as ended:
            run_inpaint(model, photos, tmp_path, *more)
        assert ended.value.code == 1
        assert message in capsys.readouterr().err

    def test_images_of_another_size_and_no_model_are_refused(
        self, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "wide").mkdir()
        write_image(np.zeros((3, 8, 8)), tmp_path / "wide" / "a.png")
        with pytest.raises(SystemExit):
            run_inpaint(tmp_path / "no", tmp_path / "wide", tmp_path / "out")
        assert "not a saved model" in capsys.readouterr().err
