"""Hierarchical: what fills missing pixels, row invariance, memory, warm-up."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from _linear_chain import LinearChain
from sklearn_qavi._random import torch_generator
from sklearn_qavi.generative import make_image_likelihood
from sklearn_qavi.generative._hierarchical import HierarchicalArchitecture, HierarchicalNetwork
from sklearn_qavi.inference import Adam, Context, Hierarchical, HierarchicalPosterior
from sklearn_qavi.inference._hierarchical import FILLS, FilledImageStart, fill_missing
from sklearn_qavi.inference._noise import mirrored_normals
from sklearn_qavi.inference._objectives import hierarchical_bound
from sklearn_qavi.inference.posteriors import Start


def small_network() -> HierarchicalNetwork:
    shape = (1, 4, 4)
    architecture = HierarchicalArchitecture(
        shape, "4x1,4d2,2d2,1x1", "1x1,2m1,4m2", width=6, latent_channels=1, bottleneck=0.5
    )
    generator = torch_generator(0)
    network = HierarchicalNetwork(
        make_image_likelihood("gaussian", shape, scale="decoder"), architecture, generator
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return network.eval().requires_grad_(False)


def quick(**options: Any) -> Hierarchical:
    settings = HierarchicalPosterior.default_optimizer(3)
    return Hierarchical(optimizer=settings.with_options(**{"max_iter": 8, "window": 4, **options}))


def rows(n: int) -> tuple[Tensor, Tensor]:
    generator = torch_generator(3)
    return torch.rand(n, 16, generator=generator), torch.rand(n, 16, generator=generator) < 0.6


def infer(method: Hierarchical, x: Tensor, observed: Tensor, **context: Any) -> Any:
    return method.infer(small_network(), None, x, observed, Context(**context))


class TestFill:
    def test_observed_cells_stay(self) -> None:
        x, observed = rows(3)
        for fill in (*FILLS, np.full(16, 0.3)):
            filled = fill_missing(small_network(), x, observed, fill)
            assert torch.equal(filled[observed], x[observed])
            assert torch.isfinite(filled).all()

    def test_mean_is_that_of_the_observed_pixels_of_each_channel(self) -> None:
        chain = LinearChain((2, 1, 3))
        x = torch.tensor([[0.2, 0.4, 9.0, 1.0, 9.0, 9.0]], dtype=torch.float64)
        observed = torch.tensor([[True, True, False, True, False, False]])
        filled = fill_missing(chain, x, observed, "mean")
        expected = [0.2, 0.4, 0.3, 1.0, 1.0, 1.0]
        np.testing.assert_allclose(filled[0], expected)

    def test_blur_takes_what_is_near(self) -> None:
        chain = LinearChain((1, 8, 8))
        image = torch.zeros(1, 8, 8, dtype=torch.float64)
        image[:, :, 4:] = 1.0
        observed = torch.ones(1, 8, 8, dtype=torch.bool)
        observed[:, 3:5, 0] = observed[:, 3:5, 7] = False
        filled = fill_missing(chain, image.flatten(1), observed.flatten(1), "blur").view(8, 8)
        np.testing.assert_allclose(filled[3:5, 0], 0.0, atol=1e-9)
        np.testing.assert_allclose(filled[3:5, 7], 1.0, atol=1e-9)

    def test_blur_reaches_across_a_wide_missing_part(self) -> None:
        chain = LinearChain((1, 9, 9))
        observed = torch.zeros(1, 9, 9, dtype=torch.bool)
        observed[:, 0, 0] = True
        image = torch.full((1, 81), 0.7, dtype=torch.float64)
        filled = fill_missing(chain, image, observed.flatten(1), "blur")
        np.testing.assert_allclose(filled, 0.7, atol=1e-9)

    def test_model_is_the_mean_at_the_priors_means(self) -> None:
        chain = LinearChain()
        filled = fill_missing(
            chain, torch.zeros(1, 6).double(), torch.zeros(1, 6, dtype=torch.bool), "model"
        )
        np.testing.assert_allclose(filled[0], chain.bias)

    def test_an_image_of_another_size_is_refused(self) -> None:
        with pytest.raises(ValueError, match="has 5 cells, but rows have 16"):
            fill_missing(small_network(), *rows(1), np.zeros(5))

    def test_options_are_checked(self) -> None:
        for name, value in {
            "fill": "zeros",
            "observed_weight": 1.0,
            "missing_weight": 0.0,
            "weights": "pixel",
            "checkpointing": "yes",
        }.items():
            with pytest.raises(ValueError, match=f"'{name}' parameter of Hierarchical must be"):
                Hierarchical(**{name: value}).check()
        with pytest.raises(ValueError, match="'warmup' parameter of Adam must be"):
            Hierarchical(optimizer=Adam(warmup=1.0)).check()
        with pytest.raises(ValueError, match="missing_weight is for weights='position'"):
            Hierarchical(weights="layer", missing_weight=0.2).check()


class TestRows:
    def test_weights_start_small_where_nothing_is_seen(self) -> None:
        network, observed = small_network(), torch.zeros(1, 16, dtype=torch.bool)
        observed[0, 5] = True  # second row, second column
        start = Start(*[torch.zeros(1, 1)] * 4)
        for weights, finest in (("position", 0.1), ("layer", 0.8)):
            family = HierarchicalPosterior(network, weights=weights)
            starter = FilledImageStart(family, torch.zeros(1, 16), observed, "mean", 0.8, 0.1)
            packed = starter(torch.tensor([0]), start).parameters
            for by_layer in family.unpack(packed)[1:]:
                one, two, four = (w[0, 0] for w in by_layer)
                np.testing.assert_allclose(one, [[0.8]], rtol=1e-5)
                np.testing.assert_allclose(two[0, 0], 0.8, rtol=1e-5)
                np.testing.assert_allclose(two[-1, -1], finest, rtol=1e-5)
                assert int((four > 0.5).sum()) == 1  # of one position, or the layer's
                np.testing.assert_allclose(four[-1, -1], finest, rtol=1e-5)

    def test_a_row_does_not_depend_on_the_others(self) -> None:
        x, observed = rows(5)
        method = quick()
        together = infer(method, x, observed)
        alone = infer(method, x[3:4], observed[3:4])
        assert torch.equal(together.posterior.parameters[3], alone.posterior.parameters[0])
        assert together.bound[3] == alone.bound[0]
        noise = torch.randn(
            7, 1, together.posterior.family.latent_dim, generator=torch_generator(1)
        )
        drawn = together.posterior.rsample(noise)
        with torch.no_grad():
            drawn, other = together.posterior.rsample(noise), alone.posterior.rsample(noise)
        assert torch.equal(drawn[:, 3], other[:, 0])

    def test_less_memory_is_tried_when_the_device_runs_out(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        x, observed = rows(2)
        expected = infer(quick(), x, observed)
        seen = []

        def hungry(block: Any, family: HierarchicalPosterior, *args: Any, **kwargs: Any) -> Tensor:
            seen.append((family.draws_at_a_time, family.checkpointing))
            if not family.checkpointing or (family.draws_at_a_time or 4) > 2:
                raise torch.OutOfMemoryError("too much")
            return hierarchical_bound(block, family, *args, **kwargs)

        monkeypatch.setattr("sklearn_qavi.inference._hierarchical.hierarchical_bound", hungry)
        with pytest.warns(ResourceWarning, match="ran out of memory"):
            result = infer(quick(), x, observed)
        assert list(dict.fromkeys(seen)) == [(16, False), (4, True), (2, True)]
        torch.testing.assert_close(result.bound, expected.bound, rtol=1e-4, atol=1e-4)

    def test_the_trace_is_of_the_bound_itself(self) -> None:
        x, observed = rows(2)
        method = quick(max_iter=16)
        plain, traced = (infer(method, x, observed, trace=trace) for trace in (False, True))
        assert traced.trace.shape == (2, 4)
        assert torch.equal(traced.trace[:, -1], plain.bound)
        assert (traced.trace[:, -1] > traced.trace[:, 0]).all()


def test_a_standstill_in_the_warm_up_does_not_count() -> None:
    """In the warm-up the bound may fall, which must not lower the step size."""
    x, observed = rows(1)
    options = {"max_iter": 40, "tol": 1e9, "min_learning_rate": 0.05, "learning_rate": 0.1}
    cold = infer(quick(**options, warmup=0.0), x, observed)
    warm = infer(quick(**options, warmup=0.5), x, observed)
    assert int(cold.n_iter) == 8
    assert int(warm.n_iter) == 24


def test_mirrored_normals_have_mean_zero_and_unit_variance() -> None:
    points = mirrored_normals(8, 1000, seed=0)
    np.testing.assert_allclose(points.mean(0), 0.0, atol=1e-6)
    np.testing.assert_allclose(points.square().mean(0), 1.0, rtol=1e-5)
    assert len(mirrored_normals(5, 3, seed=0)) == 5
    assert abs(float((points[0] * points[1]).mean())) < 0.2
