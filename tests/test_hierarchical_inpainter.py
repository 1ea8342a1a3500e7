"""QAVIInpainter with a hierarchical model: the contract again, with codes at many layers."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from _factories import digits, training_of_images, with_missing
from _linear_images import LinearImages, smooth_model
from sklearn_qavi import QAVIInpainter
from sklearn_qavi._device import one_torch_thread
from sklearn_qavi.exceptions import InferenceConvergenceWarning
from sklearn_qavi.generative import HierarchicalVAE
from sklearn_qavi.inference import Context, Gaussian, Hierarchical, HierarchicalPosterior


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
