"""Work that would take hours, for `test_interrupts` to interrupt: ``python _interrupted.py PART``.

It says "busy N" once it is in the middle of some work, N being the number of interrupts that have
ended some, and what came of the interrupt.
"""

import faulthandler
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import joblib
import numpy as np
import skorch
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression

from _factories import (
    digits,
    iris,
    tiny_image_model,
    tiny_imputer,
    tiny_layers,
    tiny_table_model,
    with_missing,
)
from _factories import training as of_length
from _factories import training_of_images as of_images
from sklearn_qavi import MultipleImputationRegressor, QAVIImputer, QAVIInpainter
from sklearn_qavi.baselines import (
    HierarchicalPosteriorMatching,
    HierarchicalVAEAC,
    PosteriorMatching,
    PseudoGibbs,
    RetunedEncoder,
)
from sklearn_qavi.generative import PretrainedDecoder, _wide_resnet_vae
from sklearn_qavi.generative._ensemble import EnsembleNet
from sklearn_qavi.inference import Gaussian, Newton, _engine

ENDLESS = 10**7
SHORT = of_length(rounds=1, patience=1)
LONG = of_length(rounds=ENDLESS, patience=ENDLESS)
SHORT_IMAGES = of_images(rounds=1, patience=1)
LONG_IMAGES = of_images(rounds=ENDLESS, patience=ENDLESS)
SHORT_TABLE, LONG_TABLE = {"max_steps": 2}, {"max_steps": ENDLESS}

calls = {"left": 0, "all": 0}
os.environ["ENDED"] = "0"  # workers started later know it as well


def say(line: str) -> None:
    """Write a line in one piece, which no interrupt and no other process can divide."""
    os.write(1, f"{line}\n".encode())


def say_busy() -> None:
    say(f"busy {os.environ['ENDED']}")


def announce(owner: Any, name: str) -> None:
    """Let a method say "busy" when ``calls["left"]`` has come to 0."""
    method = getattr(owner, name)

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls["left"] -= 1
        calls["all"] += 1
        if calls["left"] == 0:
            say_busy()
        return method(*args, **kwargs)

    setattr(owner, name, counted)


@contextmanager
def interrupted(name: str) -> Iterator[None]:
    """Require that the work inside is ended by an interrupt."""
    calls["left"] = 8
    try:
        yield
    except KeyboardInterrupt:
        os.environ["ENDED"] = str(int(os.environ["ENDED"]) + 1)
        say(f"interrupted {name}")
    else:
        raise AssertionError(f"{name} came to its end.")


def answers(estimator: Any, X: np.ndarray) -> list[np.ndarray]:
    if hasattr(estimator, "predict"):
        return [estimator.predict(X)]
    return [estimator.transform(X), estimator.sample(X, 2), *estimator.predict_interval(X)]


def asked(estimator: Any, X: np.ndarray) -> list[Callable[[], Any]]:
    """Return calls of all methods that need a fitted estimator."""
    names = ["transform", "sample", "predict_interval", "infer", "predict"]
    calls = [getattr(estimator, name) for name in names if hasattr(estimator, name)]
    out = [lambda call=call: call(X) for call in calls]
    if hasattr(estimator, "score_missing"):
        out.append(lambda: estimator.score(X))
        out.append(lambda: estimator.score_missing(X, np.isfinite(X)))
        out.append(lambda: estimator.save("nowhere"))
    return out


def fit_is_whole_or_not_at_all(
    name: str,
    estimator: BaseEstimator,
    quick: dict[str, Any],
    endless: dict[str, Any],
    old: tuple[np.ndarray, ...],
    new: tuple[np.ndarray, ...],
) -> None:
    """Interrupt a first fit, and one after a fit to other data."""
    estimator.set_params(**endless)
    untouched = set(vars(estimator))
    with interrupted(f"{name}, first fit"):
        estimator.fit(*new)
    assert set(vars(estimator)) == untouched, set(vars(estimator)) - untouched
    for call in asked(estimator, new[0]):
        try:
            call()
        except NotFittedError:
            continue
        raise AssertionError(f"{call} did not raise NotFittedError.")
    estimator.set_params(**quick).fit(*old)
    before, attributes = answers(estimator, old[0]), dict(vars(estimator))
    estimator.set_params(**endless)
    with interrupted(f"{name}, fit again"):
        estimator.fit(*new)
    estimator.set_params(**quick)
    assert vars(estimator).keys() == attributes.keys()
    for one, other in zip(before, answers(estimator, old[0]), strict=True):
        np.testing.assert_array_equal(one, other)


def of_model(params: dict[str, Any]) -> dict[str, Any]:
    return {f"generative_model__{key}": value for key, value in params.items()}


def of_method(params: dict[str, Any]) -> dict[str, Any]:
    return {f"posterior__{key}": value for key, value in params.items()}


def training() -> None:
    """Interrupt the training of every model and of every method that trains."""
    announce(skorch.NeuralNet, "train_step")
    announce(EnsembleNet, "step")
    _wide_resnet_vae._INFERENCE_BETAS = (1.0,)
    table, images = with_missing(iris()), with_missing(digits(0, 60))
    small = tiny_table_model()
    quick, endless = of_model(SHORT_TABLE), of_model(LONG_TABLE)
    imputer = QAVIImputer(generative_model=small, random_state=0)
    fit_is_whole_or_not_at_all("table", imputer, quick, endless, (table[:, :3],), (table,))
    resnet = tiny_image_model(likelihood="gaussian", random_state=0)
    quick, endless = of_model(SHORT_IMAGES), of_model(LONG_IMAGES)
    for name, model in {"resnet": resnet, "layers": tiny_layers()}.items():
        inpainter = QAVIInpainter(generative_model=model, max_iter=2, random_state=0)
        fit_is_whole_or_not_at_all(name, inpainter, quick, endless, (images[:9],), (images,))
    quick, endless = of_method(SHORT), of_method(LONG)
    trained = small.set_params(**SHORT_TABLE).fit(table)
    layered = tiny_layers().fit(images)
    for method in (PosteriorMatching(), RetunedEncoder()):
        of_table = QAVIImputer(generative_model=trained, posterior=method, random_state=0)
        name = type(method).__name__
        fit_is_whole_or_not_at_all(name, of_table, quick, endless, (table[:30],), (table,))
    for method in (HierarchicalPosteriorMatching(), HierarchicalVAEAC()):
        of_images = QAVIInpainter(generative_model=layered, posterior=method, random_state=0)
        name = type(method).__name__
        fit_is_whole_or_not_at_all(name, of_images, quick, endless, (images[:9],), (images,))


def stopped() -> bool:
    """Return whether no thread takes steps any more."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        before = calls["all"]
        time.sleep(0.5)
        if calls["all"] == before:
            return True
    return False


def inference() -> None:
    """Interrupt all that infers, with one worker and with threads."""
    announce(_engine._Loop, "advance")
    announce(PseudoGibbs, "_step")
    table = with_missing(iris())
    imputer = tiny_imputer(max_iter=20).fit(table)
    before = answers(imputer, table)
    many = np.tile(table, (1000, 1))
    for n_jobs in (1, 2):
        imputer.set_params(n_jobs=n_jobs, max_iter=300, tol=0.0)
        for i, call in enumerate(asked(imputer, many)[:6]):
            with interrupted(f"inference, method {i}, {n_jobs} job(s)"):
                call()
            assert stopped(), f"method {i}: threads go on."
        endless = PseudoGibbs(n_burn_in=ENDLESS)
        imputer.set_params(posterior=endless, max_iter=None, tol=None)
        with interrupted(f"chains, {n_jobs} job(s)"):
            imputer.transform(many)
        assert stopped(), "chains go on."
        imputer.set_params(n_jobs=None, max_iter=20, tol=None, posterior="gaussian")
        for one, other in zip(before, answers(imputer, table), strict=True):
            np.testing.assert_array_equal(one, other)


def ending() -> None:
    """Let an interrupt end the program while threads are inside of long steps."""
    announce(_engine._Loop, "advance")
    X = with_missing(iris())
    posterior = Gaussian(optimizer=Newton(n_draws=1000))
    imputer = tiny_imputer(posterior=posterior, n_jobs=2, max_iter=None)
    imputer.fit(X)
    calls["left"] = 4
    imputer.transform(np.tile(X, (1000, 1)))


class SlowElsewhere(torch.nn.Linear):
    """A decoder that takes hours in any process but the one that made it."""

    def __init__(self) -> None:
        super().__init__(2, 8)
        self.home = os.getpid()

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        if os.getpid() != self.home:
            say_busy()
            time.sleep(3600)
        return super().forward(z)


class SlowRegression(LinearRegression):
    """A regression that takes hours if told so."""

    def __init__(self, *, slow: bool = True) -> None:
        super().__init__()
        self.slow = slow

    def fit(self, X: Any, y: Any) -> "SlowRegression":
        if self.slow:
            say_busy()
            time.sleep(3600)
        return super().fit(X, y)


def processes() -> None:
    """Interrupt what waits for other processes, and multiple imputation."""
    X = with_missing(iris())
    decoder = PretrainedDecoder(SlowElsewhere(), "gaussian", n_features=4)
    imputer = QAVIImputer(generative_model=decoder, n_jobs=2, random_state=0).fit(X)
    with joblib.parallel_config("loky"), interrupted("inference in processes"):
        imputer.transform(X)
    y = iris().sum(axis=1)
    drawing = tiny_imputer(max_iter=None)
    regressor = MultipleImputationRegressor(
        estimator=SlowRegression(), imputer=drawing, n_draws=3, random_state=0
    )
    slow, quick = {"estimator__slow": True}, {"estimator__slow": False}
    fit_is_whole_or_not_at_all(
        "multiple imputation", regressor, quick, slow, (X[:60, :3], y[:60]), (X, y)
    )
    with interrupted("multiple imputation in processes"):
        clone(regressor).set_params(n_jobs=2, **slow).fit(X, y)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    faulthandler.register(signal.SIGUSR1)  # whoever waits in vain can ask where it stands
    {part.__name__: part for part in (training, inference, ending, processes)}[sys.argv[1]]()
    say("whole")
