"""Layouts of images: rows of cells and back, sizes, masks."""

import numpy as np
import pytest

from sklearn_qavi.preprocessing import ImageEncoder, find_image_shape

SHAPE = (3, 2, 4)  # channels, height, width


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("flat", [False, True])
def test_cells_are_in_one_order_whatever_the_layout(data_format: str, flat: bool) -> None:
    cells = np.arange(48.0).reshape(2, *SHAPE) / 48
    given = cells if data_format == "channels_first" else cells.transpose(0, 2, 3, 1)
    given = given.reshape(2, -1) if flat else given
    batch = ImageEncoder(SHAPE, data_format).encode(given)
    np.testing.assert_array_equal(batch.table.values, cells.reshape(2, -1))
    np.testing.assert_array_equal(batch.images, cells)
    mask = np.zeros_like(given, dtype=bool)
    mask[:] = given > 0.5
    np.testing.assert_array_equal(batch.cells(mask), cells.reshape(2, -1) > 0.5)
    hidden = ImageEncoder(SHAPE, data_format).encode(given, mask)
    completed = hidden.completed(cells.reshape(2, -1) / 2)
    np.testing.assert_array_equal(completed, np.where(mask, given / 2, given))


@pytest.mark.parametrize(
    ("dtype", "values"),
    [(np.float16, np.float32), (np.float32, np.float32), (np.float64, np.float64)],
)
def test_precision(dtype: type, values: type) -> None:
    batch = ImageEncoder((1, 2, 2)).encode(np.full((1, 2, 2), 0.25, dtype))
    assert batch.table.values.dtype == values
    assert batch.completed(np.zeros((1, 4))).dtype == dtype


def test_levels_of_uint8_are_rounded_and_kept_in_range() -> None:
    X = np.array([[[0, 255], [7, 9]]], dtype=np.uint8)
    batch = ImageEncoder((1, 2, 2)).encode(X, np.array([[False, True], [True, True]]))
    np.testing.assert_array_equal(batch.table.values[0, 0], 0)
    completed = batch.completed(np.array([[9.0, 1.7, -0.3, 100.4 / 255]]))
    np.testing.assert_array_equal(completed, [[[0, 255], [0, 100]]])


@pytest.mark.parametrize(
    ("shape", "options", "expected"),
    [
        ((5, 8, 9), {}, (1, 8, 9)),
        ((5, 3, 8, 9), {}, (3, 8, 9)),
        ((5, 8, 9, 3), {"data_format": "channels_last"}, (3, 8, 9)),
        ((5, 72), {"image_shape": (8, 9)}, (1, 8, 9)),
        ((5, 72), {"image_shape": (8, 3, 3)}, (8, 3, 3)),
        ((5, 72), {"image_shape": [8, 3, 3], "data_format": "channels_last"}, (3, 8, 3)),
        ((5, 72), {"known": (2, 6, 6)}, (2, 6, 6)),
    ],
)
def test_sizes(shape: tuple, options: dict, expected: tuple) -> None:
    options = {"image_shape": None, "data_format": "channels_first", "known": None, **options}
    assert find_image_shape(np.zeros(shape), **options) == expected
