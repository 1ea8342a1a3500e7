"""What is done at one time: sizes by device and memory, and answers that do not depend on them."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from _factories import iris, tiny_imputer, with_missing
from sklearn_qavi import _chunks, _plan
from sklearn_qavi._code_draws import _MeanDecoder
from sklearn_qavi._plan import (
    CPU_ROWS,
    DecoderPlan,
    LayerPlan,
    Plan,
    bytes_made,
    bytes_per_code,
    draws_held,
    pixels_summed_over,
    plan_for,
    rows_of_bins,
    rows_scored_in_training,
    weighed_at_a_time,
)
from sklearn_qavi._random import torch_generator
from sklearn_qavi.generative import TabularVAE
from sklearn_qavi.generative._likelihoods import ColumnLikelihoods
from sklearn_qavi.generative._network import TabularNetwork
from sklearn_qavi.inference import (
    DecoderTarget,
    FullGaussianPosterior,
    InferenceResult,
    _engine,
    fit_posterior,
)

GIB = 2**30
CPU = torch.device("cpu")


def _as_on_gpu(monkeypatch: pytest.MonkeyPatch, plan: Plan) -> None:
    for module in (_engine, _chunks, _plan):
        monkeypatch.setattr(module, "plan_for", lambda device: plan)


def _decoder(n_columns: int, latent_dim: int = 10) -> TabularNetwork:
    likelihood = ColumnLikelihoods(["student_t"] * n_columns)
    network = TabularNetwork(likelihood, latent_dim, (128, 128), "tanh", torch_generator(0))
    return network.requires_grad_(False)


def _table(n_rows: int, n_columns: int, latent_dim: int = 10) -> DecoderTarget:
    network = _decoder(n_columns, latent_dim)
    x = torch.randn(n_rows, n_columns, generator=torch_generator(1))
    observed = torch.rand(x.shape, generator=torch_generator(2)) < 0.6
    return DecoderTarget(network.decode, network.likelihood, x, observed, latent_dim)


def test_bytes_are_those_of_what_is_made() -> None:
    x = torch.zeros(10, 4)
    assert bytes_made(lambda: x + 1.0) == 160
    assert bytes_made(lambda: x.T[:2]) == 0  # views
    assert bytes_made(lambda: (x.T + 1.0).double()) == 160 + 320
    assert bytes_made(lambda: None) == 0
    weight = torch.zeros(4, 4)
    assert bytes_per_code(lambda n: torch.zeros(n, 4) @ (weight + 1.0)) == 2 * 16


def test_a_cpu_works_on_what_fits_into_its_cache_whatever_its_memory() -> None:
    plan = plan_for(CPU)
    assert plan.rows(lambda: pytest.fail("It need not be measured.")) == 64
    assert (plan.steps_per_look, plan.keeps_shape) == (1, False)


@pytest.mark.parametrize("columns", [4, 20, 100])
def test_a_large_gpu_works_on_thousands_of_rows(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {}
    for memory in (GIB, 8 * GIB, 78 * GIB):
        _as_on_gpu(monkeypatch, Plan(memory, 4, True))
        target, family = _table(64, columns), FullGaussianPosterior(10)
        problem = _engine._Problem(
            target, family, family.default_optimizer(10), _engine.elbo, 1.0, 0, None, False, None
        )
        rows[memory] = problem.rows_in_work()
        draws = problem.settings.draws_for(10)
        held = bytes_made(
            lambda t=target, s=draws: t.block(torch.arange(64))(torch.zeros(s, 64, 10))
        )
        assert rows[memory] * held / 64 < memory  # a bound without gradients fits several times
        assert rows[memory] % 32 == 0
    assert rows[78 * GIB] == 8192, rows
    assert rows[GIB] < rows[8 * GIB] <= rows[78 * GIB]


def test_chunks_grow_with_the_device_and_shrink_with_the_columns() -> None:
    gpu = Plan(78 * GIB, 4, True)
    assert gpu.chunk_rows(20) >= 4 * 8192
    assert gpu.chunk_rows(100) * 100 <= 2**20
    assert gpu.chunk_rows(10**6) == plan_for(CPU).chunk_rows(20) == 4096


class _Layered:
    """What a plan asks of a decoder with layers: two, of W x R x R features and as large codes."""

    def __init__(self, width: int, side: int) -> None:
        self.feature_shapes = [(width, side, side), (width, side // 2, side // 2)]
        self.latent_dim = sum(w * r * r for w, r, _ in self.feature_shapes)
        self.likelihood = SimpleNamespace(n_outputs=side**2)

    def descend(self, n: int, step: Any, *, checkpointing: bool = False) -> Any:
        raise AssertionError("A plan only asks for sizes.")


def test_images_that_go_down_layers_fit_into_memory() -> None:
    plans = [LayerPlan(_Layered(width, side)) for width in (1, 32, 512) for side in (8, 64, 256)]
    for plan in plans:
        largest = max(np.prod(shape) for shape in plan.decoder.feature_shapes)
        numbers = plan.images * (largest + plan.decoder.latent_dim)
        assert plan.images in {1, 2, 4, 8, 16, 32, 64}
        assert plan.images == 1 or numbers <= 2**24
        assert plan.images == 64 or 2 * numbers > 2**24
        assert 1 <= plan.images_with_gradient <= 64
        assert plan.rows_in_work == (4 if largest <= 2**16 else 1)
        assert plan.numbers_per_row == 1.25 * largest
    for sizes in ([p.images for p in plans[::4]], [p.images_with_gradient for p in plans[::4]]):
        assert sizes == sorted(sizes, reverse=True)


def test_a_large_gpu_works_on_dozens_of_layered_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Layered, "parameters", lambda self: [torch.zeros(1)], raising=False)
    for width, side in ((16, 32), (64, 32), (384, 32), (512, 256)):
        plan, rows = LayerPlan(_Layered(width, side)), []
        on_cpu = plan.rows_in_work
        for memory in (8 * GIB, 78 * GIB):
            with monkeypatch.context() as patch:
                _as_on_gpu(patch, Plan(memory, 4, True))
                rows.append(plan.rows_in_work)
                kept = 34 * plan.numbers_per_row + 800 * plan.decoder.latent_dim
                assert plan.images_with_gradient * kept < memory / 2 or rows[-1] == 1
                assert plan.images * 4 * plan.decoder.latent_dim < memory / 2
                assert plan.images & (plan.images - 1) == 0
        assert on_cpu <= rows[0] <= rows[1] <= 64
        assert rows[1] >= 16 or side == 256


@pytest.mark.parametrize("side", [8, 128])
def test_draws_of_layers_always_make_as_many_images(side: int) -> None:
    layered = _Layered(32, side)
    for decoder in (layered, _MeanDecoder(layered)):
        plan = DecoderPlan(decoder, CPU)
        assert plan.images == LayerPlan(layered).images
        assert plan.rows() == 1
        assert plan.draws(1) == plan.density_codes(1000) == plan.images
        for n_draws in (1, 3, 64, 1000):
            rows = plan.rows_drawn(n_draws)
            assert rows * plan.draws_made(n_draws, rows, 10**9) == plan.images
    n_held = plan_for(CPU).chunk_rows(4, [layered] * 3)
    assert n_held * 3 * LayerPlan(layered).numbers_per_row <= 2**26
    assert n_held < plan_for(CPU).chunk_rows(4) or side == 8


@pytest.mark.parametrize("n_columns", [2, 40, 3000])
def test_codes_and_uniforms_that_are_held_fit_into_memory(n_columns: int) -> None:
    plan = DecoderPlan(_decoder(n_columns), CPU)
    n_outputs = 2 * n_columns
    assert plan.images is None
    for n_rows in (1, 64, 10**6):
        numbers = plan.draws(n_rows) * n_rows * n_outputs
        assert plan.draws(n_rows) == 1 or numbers <= 2**20
        assert plan.scored_draws(n_rows) <= min(plan.draws(n_rows), 250)
        made = plan.draws_made(10**6, n_rows, n_columns)
        assert made == 1 or made * n_rows * n_columns <= 2**25
    assert plan.draws_made(3, 1, n_columns) == 3
    assert plan.rows_drawn(5) == plan.rows() == CPU_ROWS
    assert plan.density_codes(128) == 128


def test_what_a_cache_holds_is_bounded_and_a_row_is_always_done() -> None:
    assert rows_of_bins(32, 200) * 32 * 200 <= 2**17
    assert rows_of_bins(1000, 4000) == 1
    plan = plan_for(CPU)
    assert plan.codes_scored(64 * 100) * 64 * 100 <= 2**17
    assert plan.codes_scored(10**9) == plan.codes_scored(2**17) == 1
    assert Plan(GIB, 4, True).codes_scored(10**6) > 1024  # all codes that there are


def test_what_is_held_of_draws_and_of_scores_is_bounded() -> None:
    assert draws_held(10, 1000) == 10
    assert draws_held(10**6, 1000) * 1000 * 8 <= 2**26
    assert draws_held(5, 10**9) == 1
    assert rows_scored_in_training(64, 10) == 256
    assert rows_scored_in_training(64, 2000) == 32
    assert 64 * 500 * rows_scored_in_training(64, 500) <= 2**22
    assert weighed_at_a_time(None) == (64, 256)
    assert weighed_at_a_time(16) == (1, 16)
    assert pixels_summed_over(100, 30, 16) % 16 == 0
    assert pixels_summed_over(100, 30, 16) * 3000 <= 2**24
    assert pixels_summed_over(10**9, 30, 16) == 16


@pytest.mark.filterwarnings("ignore::sklearn_qavi.exceptions.InferenceConvergenceWarning")
@pytest.mark.parametrize("posterior", ["gaussian", "mixture", "flow"])
def test_answers_do_not_depend_on_the_plan(
    posterior: str, iris_model: TabularVAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    X = with_missing(iris())[:80]
    imputer = tiny_imputer(generative_model=iris_model, posterior=posterior, max_iter=24).fit(X)
    completed, draws = imputer.transform(X), imputer.sample(X, n=3)
    _as_on_gpu(monkeypatch, Plan(2**26, 4, True))
    np.testing.assert_allclose(imputer.transform(X), completed, rtol=0, atol=1e-4)
    np.testing.assert_allclose(imputer.sample(X, n=3), draws, rtol=0, atol=1e-3)


class _HostReads(TorchDispatchMode):
    """Counts what makes a GPU wait for the host: numbers that are read, and masks as indices."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func._schema.name.removeprefix("aten::")
        waits = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero"}
        by_mask = name in {"index", "index_put", "index_put_", "_index_put_impl_"} and any(
            i is not None and i.dtype == torch.bool for i in args[1]
        )
        self.n += name in waits or by_mask
        return func(*args, **(kwargs or {}))


def _fit_counting(
    target: DecoderTarget, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> tuple[InferenceResult, int, int, int]:
    """Return the result, the steps that were taken, the looks, and other waits for the device."""
    _as_on_gpu(monkeypatch, plan)
    counts = {"steps": 0, "looks": 0}
    step, look = _engine.RowNewton.run, _engine._Loop._look

    def counted_step(self: Any, *args: Any) -> None:
        counts["steps"] += 1
        step(self, *args)

    def counted_look(self: Any, *args: Any) -> Any:
        counts["looks"] += 1
        return look(self, *args)

    with monkeypatch.context() as patch, _HostReads() as reads:
        patch.setattr(_engine.RowNewton, "run", counted_step)
        patch.setattr(_engine._Loop, "_look", counted_look)
        result = fit_posterior(target, FullGaussianPosterior(target.latent_dim), batch_size=64)
    return result, counts["steps"], counts["looks"], reads.n


def test_a_gpu_is_asked_once_a_window_and_gives_the_same_answer_to_the_bit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = _table(150, 6, latent_dim=4)
    each_step, steps, looks, _ = _fit_counting(target, Plan(None, 1, False), monkeypatch)
    assert looks == steps
    late, steps, looks, reads = _fit_counting(target, Plan(None, 4, True), monkeypatch)
    assert steps == 4 * looks
    assert reads == 0  # nothing else waits for the device, neither in a step nor between windows
    for name in ("bound", "n_iter", "converged"):
        assert getattr(late, name).equal(getattr(each_step, name))
    assert late.posterior.parameters.equal(each_step.posterior.parameters)
    assert each_step.n_iter.unique().numel() > 1
