"""QAVIInpainter with a hierarchical model: the contract again, with codes at many layers."""

import pickle
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from _factories import digits, training_of_images, with_missing
from _linear_images import LinearImages, smooth_model
from sklearn_qavi import QAVIInpainter
from sklearn_qavi._device import one_torch_thread
from sklearn_qavi._plan import LayerPlan, plan_for
from sklearn_qavi.exceptions import InferenceConvergenceWarning
from sklearn_qavi.generative import HierarchicalVAE
from sklearn_qavi.inference import Context, Gaussian, Hierarchical, HierarchicalPosterior
from sklearn_qavi.sampling import _draws


@pytest.fixture
def layered(layered_digits: HierarchicalVAE) -> HierarchicalVAE:
    return layered_digits


class TestHierarchical:
    """The contract again, with codes at many layers."""

    def fitted(self, layered: HierarchicalVAE, **options: Any) -> QAVIInpainter:
        quick = {"max_iter": 6, "random_state": 0, **options}
        return QAVIInpainter(generative_model=layered, **quick).fit()

    def incomplete(self, n: int = 4) -> np.ndarray:
        lower = np.zeros((8, 8), dtype=bool)
        lower[5:] = True
        return np.where(lower, np.nan, digits(400, 400 + n))

    def test_it_completes_better_than_the_mean_image(self, layered: HierarchicalVAE) -> None:
        truth = digits(400, 408)
        incomplete = with_missing(truth, 0.4)
        missing = np.isnan(incomplete)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InferenceConvergenceWarning)
            completed = self.fitted(layered, max_iter=24).transform(incomplete)
        mean = np.broadcast_to(digits(0, 400).mean(0), truth.shape)
        error = np.square(completed - truth)[missing].mean()
        assert error < 0.9 * np.square(mean - truth)[missing].mean()
        np.testing.assert_array_equal(completed[~missing], incomplete[~missing])

    @pytest.mark.filterwarnings("ignore::sklearn_qavi.exceptions.InferenceConvergenceWarning")
    def test_rows_jobs_and_batches_do_not_matter(self, layered: HierarchicalVAE) -> None:
        incomplete = self.incomplete()
        expected = self.fitted(layered).sample(incomplete, n=2)
        alone = self.fitted(layered).transform(incomplete[2:3])
        np.testing.assert_array_equal(alone[0], self.fitted(layered).transform(incomplete)[2])
        # up to rounding: more draws at once and more threads are summed in another order
        for options in ({"n_jobs": 2}, {"batch_size": 1}):
            other = self.fitted(layered, **options).sample(incomplete, n=2)
            np.testing.assert_allclose(other, expected, atol=1e-3)
        assert not np.array_equal(expected[0], expected[1])

    @pytest.mark.filterwarnings("ignore::sklearn_qavi.exceptions.InferenceConvergenceWarning")
    def test_jobs_of_one_thread_each_do_not_matter_to_the_bit(
        self, layered: HierarchicalVAE
    ) -> None:
        incomplete = self.incomplete()
        with one_torch_thread():
            expected = self.fitted(layered).sample(incomplete, n=2)
        np.testing.assert_array_equal(
            self.fitted(layered, n_jobs=2).sample(incomplete, n=2), expected
        )

    @pytest.mark.filterwarnings("ignore::sklearn_qavi.exceptions.InferenceConvergenceWarning")
    def test_it_is_saved_and_loaded_to_the_bit(
        self, layered: HierarchicalVAE, tmp_path: Path
    ) -> None:
        fitted = self.fitted(layered)
        fitted.save(tmp_path)
        loaded = QAVIInpainter.load(tmp_path)
        np.testing.assert_array_equal(
            loaded.sample(self.incomplete(), n=2), fitted.sample(self.incomplete(), n=2)
        )
        pickled = pickle.loads(pickle.dumps(fitted))
        np.testing.assert_array_equal(
            pickled.transform(self.incomplete()), fitted.transform(self.incomplete())
        )

    def test_a_time_budget_is_kept_and_said(self, layered: HierarchicalVAE) -> None:
        # too short for one window of steps, after which no image can have converged
        fitted = self.fitted(layered, max_iter=100_000, posterior=Hierarchical(time_budget=1e-3))
        with pytest.warns(InferenceConvergenceWarning, match="when the 0.001 s ran out"):
            completed = fitted.transform(self.incomplete(3))
        assert np.isfinite(completed).all()

    @pytest.mark.filterwarnings("ignore::sklearn_qavi.exceptions.InferenceConvergenceWarning")
    def test_all_and_none_missing(self, layered: HierarchicalVAE) -> None:
        nothing = np.full((1, 8, 8), np.nan)
        draws = self.fitted(layered).sample(nothing, n=3)
        assert np.isfinite(draws).all()
        whole = digits(0, 2)
        np.testing.assert_array_equal(self.fitted(layered).transform(whole), whole)

    def test_auto_is_hierarchical_and_others_are_refused_or_work(
        self, layered: HierarchicalVAE
    ) -> None:
        assert isinstance(self.fitted(layered)._method(), Hierarchical)
        plain = LinearImages(smooth_model((1, 4, 5)), (1, 4, 5))
        fitted = QAVIInpainter(generative_model=plain, random_state=0).fit()
        assert isinstance(fitted._method(), Gaussian)
        with pytest.raises(ValueError, match="needs a hierarchical model"):
            QAVIInpainter(generative_model=plain, posterior="hierarchical", random_state=0).fit()
        with pytest.raises(ValueError, match="codes at many layers"):
            self.fitted(layered, posterior="feature")

    def test_the_papers_schedule_is_at_hand(self, layered: HierarchicalVAE) -> None:
        posterior = Hierarchical(optimizer="paper")
        self.fitted(layered, posterior=posterior, max_iter=None)
        recipe = posterior._settings(HierarchicalPosterior(layered.decoders_[0]), Context())
        assert (recipe.max_iter, recipe.n_draws, recipe.warmup) == (1000, 28, 0.5)

    def test_by_name_it_trains(self) -> None:
        images = np.zeros((30, 28, 28))
        images[:, 8:20, 8:20] = np.random.default_rng(0).random((30, 12, 12))
        model = HierarchicalVAE().set_params(**training_of_images(rounds=1, steps=1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted = QAVIInpainter(generative_model=model, random_state=0).fit(images)
        assert fitted.generative_model_.preset == "mnist"
        with pytest.raises(ValueError, match="larger than the decoder's last resolution"):
            QAVIInpainter(generative_model="hierarchical", random_state=0).fit(
                np.zeros((10, 40, 40))
            )


STEPS, DRAWS, SLOTS = 6, 4, 4  # steps of the default, draws of each, rows in work


@contextmanager
def counted(model: HierarchicalVAE) -> Iterator[list[int]]:
    """Note how many images go down the layers at each walk."""
    walks: list[int] = []
    (network,) = model.decoders_

    def note(module: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        walks.append(inputs[0])

    hook = network.decoder.register_forward_pre_hook(note)
    yield walks
    hook.remove()


@pytest.mark.filterwarnings("ignore::sklearn_qavi.exceptions.InferenceConvergenceWarning")
class TestCosts:
    """Counted in images that go down the layers, and in numbers that are held."""

    @pytest.fixture
    def fitted(self, layered: HierarchicalVAE) -> QAVIInpainter:
        optimizer = HierarchicalPosterior.default_optimizer(3).with_options(
            max_iter=STEPS, window=2, n_draws=DRAWS
        )
        posterior = Hierarchical(optimizer=optimizer)
        return QAVIInpainter(generative_model=layered, posterior=posterior, random_state=0).fit()

    @pytest.fixture
    def image(self) -> np.ndarray:
        image = digits(400, 401).copy()
        image[:, 5:] = np.nan
        return image

    def test_a_posterior_costs_its_steps_and_weights_only_if_they_are_read(
        self, fitted: QAVIInpainter, layered: HierarchicalVAE, image: np.ndarray
    ) -> None:
        with counted(layered) as walks:
            pooled = fitted.infer(image)
        assert sum(walks) == STEPS * DRAWS * SLOTS
        with counted(layered) as walks:
            k, size = pooled.pareto_k, pooled.effective_sample_size
        assert sum(walks) == 1024  # each goes down once, and the two share them
        assert np.isfinite(k).all()
        assert 1.0 <= size[0] <= 1024.0

    @pytest.mark.parametrize(
        ("ask", "images"),
        [
            (lambda inpainter, image: inpainter.transform(image), 64),
            (lambda inpainter, image: inpainter.sample(image, n=5), 64),
            (lambda inpainter, image: inpainter.sample(image, n=65), 128),
            (lambda inpainter, image: inpainter.predict_interval(image), 256),
        ],
    )
    def test_one_image_is_not_computed_as_often_as_a_block_has_rows(
        self,
        fitted: QAVIInpainter,
        layered: HierarchicalVAE,
        image: np.ndarray,
        ask: Callable[[QAVIInpainter, np.ndarray], Any],
        images: int,
    ) -> None:
        with counted(layered) as walks:
            ask(fitted, image)
        assert sum(walks) == STEPS * DRAWS * SLOTS + images
        assert max(walks) == LayerPlan(layered.decoders_[0]).images == 64

    def test_scores_go_down_the_layers_once(
        self, fitted: QAVIInpainter, layered: HierarchicalVAE, image: np.ndarray
    ) -> None:
        with counted(layered) as walks:
            fitted.score_missing(digits(400, 401), np.isnan(image), n_draws=[10, 128])
        assert sum(walks) == STEPS * DRAWS * SLOTS + 192  # a number that is scored ends a walk

    def test_few_draws_of_many_images_share_a_walk(
        self, fitted: QAVIInpainter, layered: HierarchicalVAE
    ) -> None:
        images = np.repeat(digits(400, 408), 2, axis=0)
        images[:, 5:] = np.nan
        rounds = len(images) // SLOTS
        with counted(layered) as walks:
            fitted.sample(images, n=4)
        assert sum(walks) == rounds * STEPS * DRAWS * SLOTS + 64

    def test_draws_are_the_same_to_the_bit_in_any_company(
        self, fitted: QAVIInpainter, image: np.ndarray
    ) -> None:
        others = digits(400, 403).copy()
        others[:, 5:] = np.nan
        many = fitted.sample(image, n=70)
        np.testing.assert_array_equal(fitted.sample(image, n=3), many[:3])
        np.testing.assert_array_equal(fitted.sample(others, n=70)[:, :1], many)
        np.testing.assert_array_equal(fitted.sample(others, n=9)[:, :1], many[:9])
        one_by_one = np.stack(list(fitted.iter_samples(others, n=9)))
        np.testing.assert_array_equal(one_by_one[:, :1], many[:9])
        np.testing.assert_array_equal(fitted.transform(others)[:1], fitted.transform(image))
        for one, with_others in zip(
            fitted.predict_interval(image), fitted.predict_interval(others), strict=True
        ):
            np.testing.assert_array_equal(with_others[:1], one)

    def test_noise_that_is_held_does_not_grow_with_the_draws(
        self, fitted: QAVIInpainter, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        held: list[int] = []
        original = _draws.row_uniforms

        def noted(*args: Any, **options: Any) -> torch.Tensor:
            uniforms = original(*args, **options)
            held.append(uniforms.numel())
            return uniforms

        monkeypatch.setattr(_draws, "row_uniforms", noted)
        largest = []
        for n in (64, 640):
            held.clear()
            fitted.sample(image, n=n)
            largest.append(max(held))
        assert largest[0] == largest[1]

    def test_large_networks_walk_with_fewer_images_and_are_held_for_fewer_rows(self) -> None:
        sizes = {}
        for preset, shape in (("mnist", (1, 28, 28)), ("cifar10", (3, 32, 32))):
            model = HierarchicalVAE(preset=preset)
            model.image_shape_, model.n_features_in_ = shape, int(np.prod(shape))
            with torch.device("meta"):
                network = model._new_network(None)
            rows = plan_for(torch.device("cpu")).chunk_rows(model.n_features_in_, [network])
            sizes[preset] = LayerPlan(network).images, rows
            largest = max(np.prod(s) for s in network.feature_shapes)
            assert sizes[preset][0] * (largest + network.latent_dim) <= 2**24
        assert sizes["mnist"][0] == 64
        assert sizes["cifar10"][0] == 16
        assert sizes["cifar10"][1] < 10 < sizes["mnist"][1]
