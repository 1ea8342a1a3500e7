"""Training: options of image models as one object, and that none of them is ignored."""

import copy
import pickle
import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import ConvergenceWarning

from _factories import digits, tiny_image_model, tiny_inpainter, tiny_layers
from sklearn_qavi import QAVIInpainter
from sklearn_qavi._files import read_json, write_json
from sklearn_qavi.exceptions import ModelFormatError
from sklearn_qavi.generative import (
    IMAGE_MODELS,
    HierarchicalVAE,
    Training,
    WideResNetVAE,
    _shared_noise,
    _wide_resnet_vae,
)
from sklearn_qavi.generative._hierarchical_vae import PRESETS

IMAGES = digits(0, 24)
MODELS = sorted(IMAGE_MODELS.items())
CHANGED: dict[str, Any] = {
    "learning_rate": 0.02,
    "learning_rate_warmup": 9,
    "batch_size": 8,
    "steps_per_epoch": 7,
    "patience": 1,
    "validation_fraction": 0.4,
    "validation_beta": 3.0,
    "kl_warmup": 40,
    "weight_decay": 0.5,
    "average_decay": 0.2,
    "clip_norm": 1e-3,
    "skip_norm": 1e-6,
    "augmentation": "flip",
    "input_noise": 0.5,
    "mask_rate": 0.9,
}


@pytest.fixture(autouse=True)
def _few_betas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes longest after training and reads no option."""
    monkeypatch.setattr(_wide_resnet_vae, "_INFERENCE_BETAS", (20.0,))
    monkeypatch.setattr(_shared_noise, "_WIDTHS", (0.85,))


def fit(model: Any, images: NDArray[np.float64] = IMAGES) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(images)


def weights(model: Any) -> torch.Tensor:
    return torch.cat([p.flatten() for p in model.decoders_[0].parameters()])


def losses(model: Any) -> list[dict[str, float]]:
    return [{k: v for k, v in e.items() if k != "dur"} for e in model.history_[0]]


def small(kind: str, **options: Any) -> Any:
    make = {"hierarchical": tiny_layers, "wide_resnet": tiny_image_model}[kind]
    return make(**{"rounds": 2, "steps": 4, "random_state": 0, **options})


def test_all_options_are_tried_here() -> None:
    assert set(CHANGED) == {field.name for field in fields(Training)}


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    return {kind: fit(small(kind)) for kind in IMAGE_MODELS}


class TestReading:
    @pytest.mark.parametrize("kind", sorted(IMAGE_MODELS))
    @pytest.mark.parametrize("option", sorted(CHANGED))
    def test_each_option_changes_the_training_or_is_refused(
        self, kind: str, option: str, plain: dict[str, Any]
    ) -> None:
        if option == "patience":  # it never improves
            model = fit(small(kind, learning_rate=1e-12, rounds=9, patience=1))
            assert model.n_iter_ < 9
            return
        model = small(kind).set_params(**{f"training__{option}": CHANGED[option]})
        if option == "validation_beta" and kind == "hierarchical":
            message = r"training has validation_beta=3.0, which HierarchicalVAE would ignore.*Wide"
            with pytest.raises(ValueError, match=message):
                model.fit(IMAGES)
            return
        assert losses(fit(model)) != losses(plain[kind])

    @pytest.mark.parametrize("kind", sorted(IMAGE_MODELS))
    def test_the_models_own_values_stand_for_none(self, kind: str) -> None:
        model = IMAGE_MODELS[kind]()
        own = model._own_training()
        assert model._training() == clone(model).set_params(training=Training())._training()
        assert model._training().learning_rate == own.learning_rate
        model.set_params(training=Training(learning_rate=0.5, mask_rate=0.25))
        options = model._training()
        assert (options.learning_rate, options.mask_rate) == (0.5, 0.25)
        assert options.batch_size == own.batch_size

    def test_presets_differ_in_what_stands_for_none(self) -> None:
        for preset, values in PRESETS.items():
            model = HierarchicalVAE(preset=preset, training=Training(average_decay=0.5))
            assert model._training().batch_size == values["training"].batch_size
            assert model._training().average_decay == 0.5

    @pytest.mark.parametrize("kind", sorted(IMAGE_MODELS))
    def test_steps_beyond_the_largest_norm_are_left_out(self, kind: str) -> None:
        one, ten = (fit(small(kind, skip_norm=1e-12, rounds=1, steps=n)) for n in (1, 10))
        torch.testing.assert_close(weights(one), weights(ten))

    @pytest.mark.parametrize("kind", sorted(IMAGE_MODELS))
    def test_infinity_is_no_limit(self, kind: str, tmp_path: Path) -> None:
        model = fit(small(kind, clip_norm=np.inf, skip_norm=np.inf))
        far = fit(small(kind, clip_norm=1e9, skip_norm=1e9))
        torch.testing.assert_close(weights(model), weights(far))
        model.save(tmp_path)
        assert type(model).load(tmp_path).training == model.training


class TestParameters:
    @pytest.mark.parametrize(("kind", "model"), MODELS)
    def test_models_have_few_parameters(self, kind: str, model: Any) -> None:
        assert len(model().get_params(deep=False)) <= 20
        assert not set(CHANGED) & set(model().get_params(deep=False))

    @pytest.mark.parametrize(("kind", "model"), MODELS)
    def test_options_can_be_set_by_name(self, kind: str, model: Any) -> None:
        untouched = model()
        changed = clone(untouched).set_params(training__learning_rate=1e-3, beta=2.0)
        assert changed.training == Training(learning_rate=1e-3)
        assert untouched.training is None
        changed.set_params(training__patience=3)
        assert changed.training == Training(learning_rate=1e-3, patience=3)
        assert changed.get_params()["training__patience"] == 3
        again = clone(changed)
        assert again.training == changed.training
        assert again.training is not changed.training
        assert "training=Training(learning_rate=0.001, patience=3)" in repr(changed)
        with pytest.raises(ValueError, match="Invalid parameter 'momentum'"):
            changed.set_params(training__momentum=0.9)
        changed.set_params(training=None)
        assert changed.training is None

    def test_options_can_be_searched_through_an_inpainter(self) -> None:
        inpainter = QAVIInpainter().set_params(generative_model__training__batch_size=7)
        assert inpainter.generative_model.training == Training(batch_size=7)

    @pytest.mark.parametrize("make", [tiny_image_model, tiny_layers])
    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("learning_rate", 0.0),
            ("learning_rate_warmup", -1),
            ("batch_size", 2.5),
            ("steps_per_epoch", 0),
            ("patience", 0),
            ("validation_fraction", 1.0),
            ("validation_beta", -1.0),
            ("kl_warmup", -1),
            ("weight_decay", -0.1),
            ("average_decay", 1.0),
            ("clip_norm", 0.0),
            ("skip_norm", "large"),
            ("augmentation", "rotate"),
            ("input_noise", -1.0),
            ("mask_rate", 1.5),
        ],
    )
    def test_bad_values_are_named(self, option: str, value: Any, make: Any) -> None:
        with pytest.raises(ValueError, match=f"The '{option}' parameter of Training must be"):
            make().set_params(**{f"training__{option}": value}).fit(IMAGES)

    def test_what_is_no_training_is_refused(self) -> None:
        with pytest.raises(ValueError, match="The 'training' parameter of WideResNetVAE must be"):
            WideResNetVAE(training={"patience": 3}).fit(IMAGES)

    def test_published_weights_are_checked_as_well(self) -> None:
        with pytest.raises(ValueError, match="The 'batch_size' parameter of Training"):
            HierarchicalVAE.from_checkpoint(
                "nowhere.th", image_shape=(3, 8, 8), training=Training(batch_size=0)
            )

    @pytest.mark.parametrize("kind", sorted(IMAGE_MODELS))
    def test_fit_leaves_the_options_as_they_are(self, kind: str) -> None:
        model = small(kind, rounds=1)
        before = copy.deepcopy(model.training)
        assert fit(model).training == before


def unchanged(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return images


class TestKeeping:
    @pytest.mark.parametrize("kind", sorted(IMAGE_MODELS))
    def test_folders_and_pickles_keep_the_options(self, kind: str, tmp_path: Path) -> None:
        options = {**CHANGED, "patience": np.int64(2), "learning_rate": np.float32(0.01)}
        if kind == "hierarchical":
            del options["validation_beta"]
        model = fit(small(kind, **options))
        model.save(tmp_path)
        loaded = type(model).load(tmp_path)
        assert loaded.training == model.training
        assert loaded.get_params()["training__patience"] == 2
        assert torch.equal(weights(loaded), weights(model))
        assert pickle.loads(pickle.dumps(model)).training == model.training
        assert losses(fit(loaded.set_params(random_state=0))) == losses(model)

    def test_a_function_is_kept_by_pickle_alone(self, tmp_path: Path) -> None:
        model = fit(small("wide_resnet", augmentation=unchanged, rounds=1))
        assert pickle.loads(pickle.dumps(model)).training.augmentation is unchanged
        model.save(tmp_path)
        loaded = WideResNetVAE.load(tmp_path)
        assert loaded.training.augmentation is None
        assert loaded.training.batch_size == model.training.batch_size

    def test_no_options_stay_none(self, tmp_path: Path) -> None:
        model = tiny_image_model(random_state=0, rounds=1)
        model.training = None
        fit(model, IMAGES[:8]).save(tmp_path)
        assert WideResNetVAE.load(tmp_path).training is None

    def test_descriptions_with_other_options_are_refused(self, tmp_path: Path) -> None:
        fit(tiny_layers()).save(tmp_path)
        config = tmp_path / "config.json"
        for damage in ({"learning_rate": 0.1}, {"training": {"momentum": 0.9}}, {"training": 3}):
            wrong = read_json(config, "model")
            wrong["config"]["parameters"] |= damage
            write_json(config, wrong)
            with pytest.raises(ModelFormatError, match="lacks or misnames"):
                HierarchicalVAE.load(tmp_path)
            fit(tiny_layers()).save(tmp_path)

    def test_an_inpainter_keeps_those_of_the_model_it_trained(self, tmp_path: Path) -> None:
        model = tiny_image_model(input_noise=0.25, clip_norm=np.inf)
        fit(tiny_inpainter(generative_model=model)).save(tmp_path)
        loaded: BaseEstimator = QAVIInpainter.load(tmp_path)
        assert loaded.generative_model.training == model.training
        assert loaded.generative_model_.training == model.training

    def test_none_and_the_models_own_values_are_one_training(self, tmp_path: Path) -> None:
        model = tiny_layers(checkpoint_folder=tmp_path)
        first = fit(model)
        model.set_params(training__learning_rate=model._own_training().learning_rate)
        assert torch.equal(weights(fit(clone(model))), weights(first))
        with pytest.raises(ValueError, match="holds a training on other images"):
            fit(clone(model).set_params(training__learning_rate=0.1))

    def test_the_cache_tells_options_apart(self, tmp_path: Path) -> None:
        model = tiny_layers(memory=str(tmp_path), steps=3)
        first = weights(fit(model))
        assert torch.equal(weights(fit(clone(model))), first)
        assert not torch.equal(weights(fit(clone(model).set_params(training__batch_size=5))), first)
