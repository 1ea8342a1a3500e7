"""Images of a folder come back as they were written, in order, and bad files are named."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sklearn_qavi.datasets import ImageFiles, read_image, write_image

LEVELS = np.random.default_rng(0).integers(0, 256, (6, 3, 5, 7)) / 255


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "b").mkdir()
    for i, image in enumerate(LEVELS):
        write_image(image, tmp_path / ("b" if i >= 4 else ".") / f"{i}.png")
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_what_was_written_is_read(folder: Path) -> None:
    images = ImageFiles(folder)
    assert len(images) == 6
    assert images.image_shape == (3, 5, 7)
    np.testing.assert_allclose(images[:], LEVELS, atol=1e-7)
    assert images[:].dtype == np.float32
    np.testing.assert_array_equal(images[[5, 0]], images[:][[5, 0]])
    np.testing.assert_array_equal(images[np.arange(6) % 2 == 0], images[::2])
    np.testing.assert_array_equal(images[-1], images[5])
    assert images[:0].shape == (0, 3, 5, 7)
    assert [image.shape for image in images] == [(3, 5, 7)] * 6


def test_colour_is_converted_to_grey_and_back(folder: Path) -> None:
    grey = ImageFiles(folder, n_channels=1)
    weights = np.array([0.299, 0.587, 0.114])[:, None, None]  # ITU-R 601-2
    np.testing.assert_allclose(grey[0][0], (weights * LEVELS[0]).sum(0), atol=1.1 / 255)
    write_image(grey[0], folder / "grey.png")
    np.testing.assert_array_equal(read_image(folder / "grey.png")[1], grey[0][0])


def test_the_middle_square_is_resized(tmp_path: Path) -> None:
    image = np.zeros((1, 8, 12))
    image[:, :, 2:10] = 0.4
    image[:, :, :2] = 1.0
    write_image(image, tmp_path / "a.png")
    images = ImageFiles(tmp_path, n_channels=1, size=4)
    assert images.image_shape == (1, 4, 4)
    np.testing.assert_allclose(images[0], 0.4, atol=1 / 255)


@pytest.mark.parametrize("mode", ["RGBA", "P", "LA", "I;16"])
def test_other_kinds_of_files_are_read(tmp_path: Path, mode: str) -> None:
    pixels: NDArray[np.uint8] = np.full((4, 4, 3), 100, np.uint8)
    image = Image.fromarray(pixels)
    if mode == "I;16":
        image = Image.fromarray(np.full((4, 4), 100 * 257, np.uint16))
    else:
        image = image.quantize(4) if mode == "P" else image.convert(mode)
    image.save(tmp_path / "a.png")
    np.testing.assert_allclose(read_image(tmp_path / "a.png"), 100 / 255, atol=1.1 / 255)


def test_errors_name_the_file(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no image file"):
        ImageFiles(tmp_path / "nowhere")
    write_image(np.zeros((3, 5, 6)), folder / "5.png")
    with pytest.raises(ValueError, match=r"5.png has shape \(3, 5, 6\)"):
        ImageFiles(folder)[:]
    (folder / "6.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"6.png cannot be read"):
        ImageFiles(folder)[5]
    with pytest.raises(ValueError, match="n_channels"):
        ImageFiles(folder, n_channels=4)
    with pytest.raises(ValueError, match="size"):
        ImageFiles(folder, size=0)


def test_only_images_are_written(tmp_path: Path) -> None:
    for image in (np.zeros((4, 4)), np.zeros((2, 4, 4))):
        with pytest.raises(ValueError, match="shape"):
            write_image(image, tmp_path / "a.png")
    for image in (np.full((1, 2, 2), np.nan), np.full((1, 2, 2), 1.5)):
        with pytest.raises(ValueError, match="from 0 to 1"):
            write_image(image, tmp_path / "a.png")
