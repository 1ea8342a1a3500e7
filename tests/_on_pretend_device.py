"""Run the library on a device that is not the CPU: ``python _on_pretend_device.py PART``.

In a process of its own, as torch knows one such device until the process ends.
"""

import sys
import warnings
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import clone

import _pretend_device
from _factories import (
    digits,
    iris,
    tiny_image_model,
    tiny_imputer,
    tiny_inpainter,
    tiny_layers,
    tiny_table_model,
    with_missing,
)
from _factories import training as of_length
from _pretend_device import Travelled, travelling
from sklearn_qavi import _chunks, _plan
from sklearn_qavi.baselines import (
    MetropolisWithinGibbs,
    PosteriorMatching,
    PseudoGibbs,
    RetunedEncoder,
)
from sklearn_qavi.generative import _ensemble
from sklearn_qavi.generative._ensemble import EnsembleNet
from sklearn_qavi.generative._training import VAENet
from sklearn_qavi.inference import _engine

POSTERIORS = ["gaussian", "mixture", "flow", "feature"]
SMALL_GPU = _plan.Plan(2**22, 4, True)  # 32 rows at a time, looked at after four steps


def mixed_table() -> pd.DataFrame:
    """Return numbers, few numbers and categories, with missing values."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(with_missing(iris())[:40], columns=list("abcd"))
    table["count"] = rng.choice([0.0, 1.0, 2.0], 40)
    table["kind"] = rng.choice(["u", "v", "w"], 40)
    table.loc[::3, ["count", "kind"]] = None
    return table


def agree(one: Any, other: Any, tolerance: float = 1e-4) -> None:
    """Require that two answers differ by rounding at most, in units of their spread."""
    if isinstance(one, pd.DataFrame):
        for name in one:
            agree(one[name].to_numpy(), other[name].to_numpy(), tolerance)
    elif isinstance(one, tuple | list):
        for parts in zip(one, other, strict=True):
            agree(*parts, tolerance)
    elif np.asarray(one).dtype == object:
        for cell, same in zip(np.ravel(one), np.ravel(other), strict=True):
            assert cell == same or abs(cell - same) <= tolerance, (cell, same)
    else:
        np.testing.assert_allclose(other, one, atol=tolerance * max(1.0, np.nanstd(one)))


def answers(imputer: Any, X: Any, hidden: Any) -> list[Any]:
    if getattr(imputer, "posterior", None) != "gaussian":
        return [imputer.transform(X)]
    return [
        imputer.transform(X),
        list(imputer.sample(X, n=3)),
        imputer.predict_interval(X),
        list(imputer.score_missing(X, hidden, n_draws=4).values()),
        imputer.infer(X).bound,
    ]


def on_both(estimator: Any, training: Any, X: Any, hidden: Any) -> None:
    """Require that an estimator answers alike on both devices."""
    devices = ("cpu", _pretend_device.NAME)
    on_each = [clone(estimator).set_params(device=device).fit(training) for device in devices]
    agree(*(answers(fitted, X, hidden) for fitted in on_each))


def tables() -> None:
    """Tables under every posterior, and with importance weights."""
    X = mixed_table()
    hidden = X.notna().to_numpy() & (np.arange(6) < 2)
    model = tiny_imputer(generative_model=tiny_table_model(likelihood="auto")).fit(X)
    imputer = tiny_imputer(generative_model=model.generative_model_)
    for posterior in POSTERIORS:
        on_both(imputer.set_params(posterior=posterior), X, X, hidden)
    # a code more or less among those resampled is a matter of rounding
    imputer.set_params(posterior="gaussian", device=_pretend_device.NAME).fit(X)
    imputer.set_params(importance_resampling=True)
    assert np.isfinite(imputer.infer(X).pareto_k).all()
    assert pd.notna(imputer.transform(X)).all()


def methods() -> None:
    """What QAVI is compared with."""
    X = with_missing(iris())[:40]
    model = tiny_table_model().fit(X)
    short = of_length(rounds=1, patience=1)
    for method in (
        PseudoGibbs(n_burn_in=2, n_draws=8),
        MetropolisWithinGibbs(n_burn_in=2, n_draws=8),
        PosteriorMatching(**short),
        RetunedEncoder(**short),
    ):
        imputer = tiny_imputer(generative_model=model, posterior=method, max_iter=None)
        on_both(imputer, X, X, hidden=None)


def images() -> None:
    """Images of one code, and of codes at many layers."""
    X = digits(0, 16)
    incomplete = with_missing(X[:2])
    hidden = np.isfinite(incomplete) & (np.arange(incomplete.shape[-1]) < 2)
    resnet = tiny_image_model(likelihood="logistic_mixture", random_state=0).fit(X)
    layers = tiny_layers().fit(X)
    for model in (resnet, layers):
        on_both(tiny_inpainter(generative_model=model, noise_width=1.0), X, incomplete, hidden)


def training() -> None:
    """Networks on both devices learn the same from the same rows and noise."""
    X, pictures = mixed_table(), digits(0, 16)
    for make in (
        lambda **options: (
            tiny_imputer(
                generative_model=tiny_table_model(
                    likelihood="auto", max_steps=12, mask_rate=0.5, n_decoders=2, **options
                )
            )
            .fit(X)
            .generative_model_
        ),
        lambda **options: tiny_layers(**options).fit(pictures),
    ):
        histories = [
            [[look["train_loss"] for look in history] for history in make(device=device).history_]
            for device in ("cpu", _pretend_device.NAME)
        ]
        for one, other in zip(*histories, strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-3)


def watch(owner: type, name: str) -> list[Travelled]:
    """Return what will have travelled in each call of a method."""
    method, calls = getattr(owner, name), []

    def watched(*args: Any, **kwargs: Any) -> Any:
        with travelling() as travelled:
            out = method(*args, **kwargs)
        calls.append(travelled)
        return out

    setattr(owner, name, watched)
    return calls


def waits() -> None:
    """The host asks for nothing between two looks, and sends next to nothing."""
    climbs, steps = watch(_engine._Loop, "_climb"), watch(EnsembleNet, "step")

    def none_travelled() -> bool:
        calls = climbs.copy()
        climbs.clear()
        return bool(calls) and all(call == Travelled() for call in calls)

    X = mixed_table()
    for likelihood, posteriors in (("histogram", POSTERIORS), ("auto", ["gaussian", "feature"])):
        table = X if likelihood == "auto" else X[list("abcd")]
        fitted = tiny_imputer(generative_model=tiny_table_model(likelihood=likelihood)).fit(table)
        for posterior in posteriors:
            fitted.set_params(posterior=posterior, device=_pretend_device.NAME).transform(table)
            assert none_travelled(), (likelihood, posterior)
        steps.clear()
        model = tiny_table_model(
            likelihood=likelihood, max_steps=12, refit=False, device=_pretend_device.NAME
        )
        tiny_imputer(generative_model=model).fit(table)
        assert len(steps) == 12
        assert steps[0].sent > 2  # rows and two kinds of noise, for all steps
        assert all(call.read == 0 for call in steps[1:]), likelihood
        assert sum(call.sent for call in steps[1:]) <= 2, likelihood  # the smoothing of bins
    pictures = digits(0, 16)
    epochs = watch(VAENet, "run_single_epoch")
    tiny_image_model(steps=5, device=_pretend_device.NAME).fit(pictures)
    assert [call.read for call in epochs] == [1]  # all losses together
    model = tiny_image_model(likelihood="logistic_mixture", random_state=0).fit(pictures)
    for posterior in ("gaussian", "mixture"):
        inpainter = tiny_inpainter(
            generative_model=model, posterior=posterior, device=_pretend_device.NAME
        )
        inpainter.fit(pictures).transform(with_missing(pictures[:4]))
        assert none_travelled(), posterior


def refusal() -> None:
    """The device is one: it does not mix with the CPU."""
    ours = torch.ones(2, device=_pretend_device.NAME)
    try:
        ours + torch.ones(2)
    except RuntimeError as error:
        assert "pretend and cpu" in str(error)  # noqa: PT017
    else:
        raise AssertionError("Tensors of two devices were added.")
    with travelling() as travelled:
        float(ours.sum() + torch.tensor(1.0))
        ours[ours > 0]
        ours.copy_(torch.zeros(2))
    assert travelled == Travelled(read=2, sent=1)


PARTS = (tables, methods, images, training, waits, refusal)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    _pretend_device.switch_on()
    for module in (_plan, _chunks, _engine, _ensemble):
        module.plan_for = lambda device: SMALL_GPU  # type: ignore[attr-defined]
    {part.__name__: part for part in PARTS}[sys.argv[1]]()
