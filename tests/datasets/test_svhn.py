"""House numbers from files of the published format, and from openml.org through scikit-learn."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from sklearn_qavi.datasets import _svhn, fetch_svhn

LABELS = np.array([1, 10, 3, 9])


@pytest.fixture
def pixels() -> np.ndarray:
    """Return four images (4, 32, 32, 3)."""
    return np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)


def write(folder: Path, X: np.ndarray, y: np.ndarray = LABELS, name: str = "train") -> None:
    savemat(
        folder / f"{name}_32x32.mat",
        {"X": X.transpose(1, 2, 3, 0), "y": y.astype(np.uint8).reshape(-1, 1)},
        do_compression=True,
    )


@pytest.mark.parametrize("subset", ["train", "test", "extra"])
def test_a_file_of_the_published_format(pixels, subset, tmp_path) -> None:
    write(tmp_path, pixels, name=subset)
    images, labels = fetch_svhn(str(tmp_path), subset=subset)
    np.testing.assert_array_equal(images, pixels)
    np.testing.assert_array_equal(labels, [1, 0, 3, 9])
    assert images.flags.c_contiguous


def test_files_that_are_something_else(pixels, tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"train_32x32.mat.*ufldl.stanford.edu"):
        fetch_svhn(tmp_path)
    write(tmp_path, pixels[:, :30])
    with pytest.raises(ValueError, match=r"shape \(30, 32, 3, 4\) and type uint8, expected"):
        fetch_svhn(tmp_path)
    write(tmp_path, pixels / 255)
    with pytest.raises(ValueError, match=r"type float64"):
        fetch_svhn(tmp_path)
    write(tmp_path, pixels, LABELS[:3])
    with pytest.raises(ValueError, match="4 images but 3 labels"):
        fetch_svhn(tmp_path)
    write(tmp_path, pixels, LABELS + 1)
    with pytest.raises(ValueError, match="must be 1 to 10"):
        fetch_svhn(tmp_path)
    savemat(tmp_path / "train_32x32.mat", {"images": pixels})
    with pytest.raises(ValueError, match=r"is not a file of SVHN \('X'\)"):
        fetch_svhn(tmp_path)
    file = tmp_path / "train_32x32.mat"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(ValueError, match="is not a file of SVHN"):
        fetch_svhn(tmp_path)
    with pytest.raises(ValueError, match="subset must be one of"):
        fetch_svhn(tmp_path, subset="validation")


def test_openml(pixels, monkeypatch) -> None:
    def fetch(**options):
        assert options["return_X_y"]
        assert options["data_id"] == 41081
        return pixels.reshape(4, -1).astype(np.int64), np.array(["1", "10", "3", "9"])

    monkeypatch.setattr(_svhn, "fetch_openml", fetch)
    with pytest.raises(ValueError, match="gave 4 images, expected 99289"):
        fetch_svhn()
    monkeypatch.setattr(_svhn, "_N_TRAIN", 3)
    monkeypatch.setattr(_svhn, "_N_TEST", 1)
    images, labels = fetch_svhn(subset="train")
    np.testing.assert_array_equal(images, pixels[:3])
    np.testing.assert_array_equal(labels, [1, 0, 3])
    images, labels = fetch_svhn(subset="test")
    np.testing.assert_array_equal(images, pixels[3:])
    with pytest.raises(ValueError, match="no subset 'extra'"):
        fetch_svhn(subset="extra")
