"""Training that is stopped, or shared among processes, ends with the same model."""

import json
import os
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from _factories import digits, quick_image_model, tiny_layers
from sklearn_qavi._files import write_sealed
from sklearn_qavi.datasets import ImageFiles, write_image
from sklearn_qavi.exceptions import ModelFormatError
from sklearn_qavi.generative import HierarchicalVAE

IMAGES = digits(0, 120)


class Killer:
    """An augmentation that changes nothing, draws a number, and raises once."""

    def __init__(self) -> None:
        self.n_calls, self.last = 0, np.inf

    def __call__(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        self.n_calls += 1
        if self.n_calls > self.last:
            raise RuntimeError("killed")
        return images + 0.0 * torch.rand(1, generator=generator)


killer = Killer()


def change(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return killer(images, generator)


@pytest.fixture(autouse=True)
def _alive() -> None:
    killer.n_calls, killer.last = 0, np.inf


hierarchical = partial(tiny_layers, rounds=4, steps=6, augmentation=change)
wide_resnet = partial(quick_image_model, rounds=4, steps=6, augmentation=change)


def fit(model: Any, images: Any = IMAGES) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(images)


def interrupt(model: Any, after: int) -> None:
    killer.n_calls, killer.last = 0, after
    with pytest.raises(RuntimeError, match="killed"):
        fit(model)
    killer.last = np.inf


def assert_same(model: Any, other: Any) -> None:
    for a, b in zip(model.decoders_, other.decoders_, strict=True):
        ours, theirs = a.state_dict(), b.state_dict()
        assert ours.keys() == theirs.keys()
        for name in ours:
            assert torch.equal(ours[name], theirs[name]), name
    drop = [[{k: v for k, v in e.items() if k != "dur"} for e in h] for h in model.history_]
    keep = [[{k: v for k, v in e.items() if k != "dur"} for e in h] for h in other.history_]
    assert drop == keep


@pytest.mark.parametrize(
    ("make", "after"), [(hierarchical, 3), (hierarchical, 9), (hierarchical, 18), (wide_resnet, 9)]
)
def test_a_stopped_training_goes_on_as_if_nothing_had_been(
    make: Any, after: int, tmp_path: Path
) -> None:
    whole = fit(make())
    interrupt(make(checkpoint_folder=tmp_path), after)
    killer.n_calls = 0
    resumed = fit(make(checkpoint_folder=tmp_path))
    assert_same(resumed, whole)
    assert killer.n_calls == 24 - 6 * (after // 6)  # whole epochs are not trained again


def test_a_second_decoder_goes_on_alone(tmp_path: Path) -> None:
    whole = fit(hierarchical(n_decoders=2, rounds=2))
    interrupt(hierarchical(n_decoders=2, rounds=2, checkpoint_folder=tmp_path), 20)
    killer.n_calls = 0
    assert_same(fit(hierarchical(n_decoders=2, rounds=2, checkpoint_folder=tmp_path)), whole)
    assert killer.n_calls == 6


def test_more_epochs_may_be_asked_for(tmp_path: Path) -> None:
    fit(hierarchical(rounds=2, checkpoint_folder=tmp_path))
    assert_same(fit(hierarchical(checkpoint_folder=tmp_path)), fit(hierarchical()))


def test_what_has_settled_is_not_trained_further(tmp_path: Path) -> None:
    options: dict[str, Any] = {"patience": 1, "learning_rate": 1e-12, "checkpoint_folder": tmp_path}
    first = fit(hierarchical(**options))
    assert first.n_iter_ < 4
    killer.n_calls = 0
    assert_same(fit(hierarchical(**options)), first)
    assert killer.n_calls == 0


@pytest.mark.global_rng
def test_without_a_seed_that_of_the_folder_is_taken(tmp_path: Path) -> None:
    options: dict[str, Any] = {"random_state": None, "checkpoint_folder": tmp_path, "rounds": 2}
    assert_same(fit(hierarchical(**options)), fit(clone(hierarchical(**options))))


class TestForeignFolders:
    def test_other_images_or_settings_are_refused(self, tmp_path: Path) -> None:
        fit(hierarchical(rounds=1, checkpoint_folder=tmp_path))
        message = "holds a training on other images"
        with pytest.raises(ValueError, match=message):
            fit(hierarchical(checkpoint_folder=tmp_path), 1 - IMAGES)
        for options in ({"width": 12}, {"random_state": 1}, {"batch_size": 8}):
            with pytest.raises(ValueError, match=message):
                fit(hierarchical(checkpoint_folder=tmp_path, **options))

    def test_damaged_files_are_refused(self, tmp_path: Path) -> None:
        fit(hierarchical(rounds=1, checkpoint_folder=tmp_path))
        file = tmp_path / "decoder_0.pt"
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
        with pytest.raises(ModelFormatError, match=r"decoder_0.pt is not as it was written"):
            fit(hierarchical(checkpoint_folder=tmp_path))
        write_sealed(file, lambda part: torch.save({"network": {}}, part))
        with pytest.raises(ModelFormatError, match="not the state of this training"):
            fit(hierarchical(checkpoint_folder=tmp_path))
        (tmp_path / "training.json").write_text("{}")
        with pytest.raises(ModelFormatError, match="does not describe"):
            fit(hierarchical(checkpoint_folder=tmp_path))


@pytest.fixture
def files(tmp_path: Path) -> ImageFiles:
    folder = tmp_path / "images"
    folder.mkdir()
    for i, image in enumerate(IMAGES):
        write_image(image[None], folder / f"{i:03d}.png")
    return ImageFiles(folder, n_channels=1)


@pytest.mark.parametrize("n_workers", [0, 2])
def test_files_train_what_their_pixels_train(files: ImageFiles, n_workers: int) -> None:
    pixels = files[:]
    files.n_workers = n_workers
    assert_same(
        fit(hierarchical(augmentation=None), files), fit(hierarchical(augmentation=None), pixels)
    )


def test_a_training_on_files_goes_on(files: ImageFiles, tmp_path: Path) -> None:
    folder = tmp_path / "state"
    fit(hierarchical(rounds=2, checkpoint_folder=folder), files)
    assert_same(fit(hierarchical(checkpoint_folder=folder), files), fit(hierarchical(), files))
    files.files[3].unlink()
    with pytest.raises(ValueError, match="other images"):
        fit(hierarchical(checkpoint_folder=folder), ImageFiles(files.folder, n_channels=1))


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[HierarchicalVAE]]:
    """What processes with the threads of this one have trained, by the name of the run."""
    folder = tmp_path_factory.mktemp("processes")
    runs = [("two", 2, 4, ""), ("one", 1, 2, ""), ("start", 2, 2, "state"), ("more", 2, 4, "state")]
    place = {"PYTHONPATH": os.pathsep.join(sys.path)}  # to find the factories
    subprocess.run(
        [sys.executable, Path(__file__).parents[1] / "_together.py", json.dumps(runs)],
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), **place},
        cwd=folder,
        check=True,
        timeout=600,
    )
    return {
        name: [HierarchicalVAE.load(folder / f"{name}_{rank}") for rank in range(n)]
        for name, n, _, _ in runs
    }


@pytest.mark.slow
class TestProcesses:
    """Real processes that average their gradients, over the loopback interface."""

    def test_they_agree_and_learn(self, together: dict[str, list[HierarchicalVAE]]) -> None:
        first, second = together["two"]
        assert_same(first, second)
        losses = [epoch["valid_loss"] for epoch in first.history_[0]]
        assert losses[-1] < losses[0]

    def test_one_alone_is_as_without(self, together: dict[str, list[HierarchicalVAE]]) -> None:
        (alone,) = together["one"]
        assert_same(alone, fit(hierarchical(rounds=2, augmentation=None)))

    def test_they_go_on_together(self, together: dict[str, list[HierarchicalVAE]]) -> None:
        assert_same(together["more"][0], together["two"][0])
        assert len(together["start"][0].history_[0]) == 2


def test_batches_that_cannot_be_shared_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn_qavi.generative import _image_vae
    from sklearn_qavi.generative._distributed import Processes

    three = Processes()
    three.world_size = 3
    monkeypatch.setattr(_image_vae, "training_processes", lambda device: three)
    with pytest.raises(ValueError, match="multiple of their number"):
        fit(hierarchical(batch_size=8))
