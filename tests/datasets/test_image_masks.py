"""Masks of images: their areas, places and shapes."""

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, label

from sklearn_qavi.datasets import make_image_masks

ALL = ["random_patches", "rotated_half", "random_pixels", "free_form"]
EIGHT_NEIGHBOURS = np.ones((3, 3))


@pytest.mark.parametrize("kind", ALL)
def test_seeds_and_shapes(kind: str) -> None:
    one, other, third = (
        make_image_masks(6, (12, 17), kind=kind, random_state=seed) for seed in (0, 0, 1)
    )
    assert one.shape == (6, 12, 17)
    assert one.dtype == bool
    np.testing.assert_array_equal(one, other)
    assert (one != third).any()
    assert len({mask.tobytes() for mask in one}) == 6
    assert make_image_masks(0, (12, 17), kind=kind, random_state=0).shape == (0, 12, 17)
    rng = np.random.RandomState(0)
    np.testing.assert_array_equal(make_image_masks(6, (12, 17), kind=kind, random_state=rng), one)


class TestPatches:
    def test_one_patch_is_a_whole_rectangle_inside(self) -> None:
        masks = make_image_masks(300, (11, 14), n_patches=1, patch_size=(3, 5), random_state=0)
        corners = set()
        for mask in masks:
            rows, columns = np.nonzero(mask)
            assert mask.sum() == 15
            assert np.ptp(rows) == 2
            assert np.ptp(columns) == 4
            corners.add((rows.min(), columns.min()))
        assert {row for row, _ in corners} == set(range(9))  # up to both edges
        assert {column for _, column in corners} == set(range(10))

    @pytest.mark.parametrize(("side", "patch"), [(28, 10), (32, 15), (64, 30), (1, 1)])
    def test_documented_sizes(self, side: int, patch: int) -> None:
        masks = make_image_masks(50, (side, side), random_state=0)
        areas = masks.sum(axis=(1, 2))
        assert areas.max() <= 2 * patch**2
        assert areas.min() >= patch**2
        single = make_image_masks(3, (side, side), n_patches=1, random_state=0)
        np.testing.assert_array_equal(single.sum(axis=(1, 2)), patch**2)

    def test_places_are_uniform(self) -> None:
        masks = make_image_masks(4000, (6, 6), n_patches=1, patch_size=2, random_state=0)
        rows = masks.any(axis=2).argmax(axis=1)
        counts = np.bincount(rows, minlength=5)
        np.testing.assert_allclose(counts / 4000, 0.2, atol=0.03)

    def test_a_patch_may_fill_the_image(self) -> None:
        assert make_image_masks(2, (4, 3), patch_size=(4, 3), random_state=0).all()


class TestHalf:
    @pytest.mark.parametrize("shape", [(28, 28), (12, 20)])
    def test_it_is_the_half_plane_opposite_to_the_other_half(self, shape: tuple[int, int]) -> None:
        masks = make_image_masks(200, shape, kind="rotated_half", random_state=0)
        # even sides have no pixel in the centre, so what a turn by 180 degrees leaves is the rest
        np.testing.assert_array_equal(masks[:, ::-1, ::-1], ~masks)
        y, x = np.indices(shape)
        for mask in masks[:20]:
            place = [np.array([c[m].mean() for c in (y, x)]) for m in (mask, ~mask)]
            normal = place[0] - place[1]
            centre = (np.array(shape) - 1) / 2
            assert (y[mask] - centre[0]) @ np.full(mask.sum(), normal[0]) > 0
            # a line separates the two, through the centre: no missing pixel on both sides of it
            assert _separable(np.stack([y - centre[0], x - centre[1]], -1), mask)

    def test_about_half_of_odd_images_and_all_angles(self) -> None:
        masks = make_image_masks(2000, (9, 9), kind="rotated_half", random_state=0)
        assert np.abs(masks.mean(axis=(1, 2)) - 0.5).max() < 0.07
        by_pixel = masks.mean(axis=0)
        by_pixel[4, 4] = 0.5
        np.testing.assert_allclose(by_pixel, 0.5, atol=0.05)


def _separable(places: np.ndarray, mask: np.ndarray) -> bool:
    """Return whether some direction through the origin has the mask on its positive side."""
    angles = np.linspace(0, 2 * np.pi, 20_000)
    directions = np.stack([np.cos(angles), np.sin(angles)])
    signed = np.where(mask.reshape(-1, 1), 1, -1) * (places.reshape(-1, 2) @ directions)
    return bool((signed.min(axis=0) > -1e-6).any())


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.9, 1.0])
def test_single_pixels_reach_their_rate(rate: float) -> None:
    masks = make_image_masks(100, (20, 20), kind="random_pixels", rate=rate, random_state=0)
    assert masks.mean() == pytest.approx(rate, abs=0.01)
    together = (masks[:, :, 1:] & masks[:, :, :-1]).mean()  # neighbours are independent
    assert together == pytest.approx(rate**2, abs=0.02)


class TestFreeForm:
    @pytest.mark.parametrize("limits", [(0.1, 0.2), (0.3, 0.6), (0.7, 0.9)])
    def test_the_share_of_missing_pixels_is_within_the_range(
        self, limits: tuple[float, float]
    ) -> None:
        masks = make_image_masks(40, (32, 48), kind="free_form", rate_range=limits, random_state=0)
        share = masks.mean(axis=(1, 2))
        assert limits[0] < share.min()
        assert share.max() < limits[1]
        assert np.ptp(share) > 0.3 * (limits[1] - limits[0])

    def test_a_stroke_is_in_one_piece_and_as_wide_as_asked_for(self) -> None:
        options = {"kind": "free_form", "n_boxes": (0, 0), "n_strokes": 2, "random_state": 0}
        thin = make_image_masks(60, (64, 64), stroke_width=(0, 0), **options)
        thick = make_image_masks(60, (64, 64), stroke_width=(0.125, 0.125), **options)
        assert all(label(mask, EIGHT_NEIGHBOURS)[1] == 1 for mask in [*thin, *thick])
        # the widest disc inside: 8 pixels for a width of an eighth
        depth = [distance_transform_edt(np.pad(mask, 9, "edge")).max() for mask in thick]
        assert min(depth) >= 3.5
        assert thick.mean() > 3 * thin.mean()

    def test_boxes_are_boxes(self) -> None:
        masks = make_image_masks(
            200, (20, 30), kind="free_form", n_boxes=(0, 2), n_strokes=0, random_state=0
        )
        for mask in masks:
            rows, columns = mask.any(axis=1), mask.any(axis=0)
            np.testing.assert_array_equal(mask, rows[:, None] & columns)
            assert label(rows)[1] == label(columns)[1] == 1
        heights, widths = masks.any(axis=2).sum(axis=1), masks.any(axis=1).sum(axis=1)
        assert heights.max() >= 18
        assert widths.max() >= 27
        halves = make_image_masks(
            200, (20, 30), kind="free_form", n_boxes=(2, 0), n_strokes=0, random_state=0
        )
        assert halves.any(axis=2).sum(axis=1).max() == 10
        assert halves.any(axis=1).sum(axis=1).max() in (14, 15)

    def test_no_corner_is_preferred(self) -> None:
        masks = make_image_masks(1500, (8, 8), kind="free_form", random_state=0)
        corners = masks.mean(axis=0)[[0, 0, -1, -1], [0, -1, 0, -1]]
        assert np.ptp(corners) < 0.08


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "circle"}, "kind must be 'random_patches'"),
        ({"n": -1}, "n must be a whole number of at least 0, got -1"),
        ({"shape": (3, 8, 8)}, "shape must be height and width"),
        ({"shape": (0, 8)}, "height in shape must be a whole number of at least 1"),
        ({"patch_size": 9}, "Patches of 9 x 9 pixels do not fit into images of 8 x 8"),
        ({"patch_size": "big"}, "patch_size must be a whole number"),
        ({"patch_size": 2.5}, "patch_size must be a whole number or height and width"),
        ({"n_patches": 0}, "n_patches must be a whole number of at least 1"),
        ({"kind": "random_pixels", "rate": 1.5}, "rate must be a number from 0 to 1"),
        ({"kind": "free_form", "rate_range": (0.5, 0.2)}, "rate_range must be two numbers in"),
        ({"kind": "free_form", "rate_range": (0.2, 0.2)}, "from a smaller to a larger number"),
        ({"kind": "free_form", "n_vertices": (9, 4)}, "from a smaller to a larger number"),
        ({"kind": "free_form", "stroke_width": 0.1}, "stroke_width must be two numbers"),
        (
            {"kind": "free_form", "rate_range": (0.9, 1.0), "n_boxes": (0, 0), "n_strokes": 2},
            "No mask of 1000 had a share of missing pixels between 0.9 and 1",
        ),
    ],
)
def test_options_that_cannot_be(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_image_masks(**{"n": 2, "shape": (8, 8), "random_state": 0, **options})
