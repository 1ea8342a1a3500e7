"""TabularVAE: what it learns, how it is kept, how it is saved."""

import copy
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from _factories import iris, quick_table_model, tiny_table_model, with_missing
from sklearn_qavi import QAVIImputer
from sklearn_qavi._files import read_json, write_json
from sklearn_qavi._random import torch_generator
from sklearn_qavi.exceptions import ModelFormatError
from sklearn_qavi.generative import GenerativeModel, TabularVAE
from sklearn_qavi.generative._ensemble import follow, race
from sklearn_qavi.generative._likelihoods import ColumnLikelihoods
from sklearn_qavi.generative._network import TabularNetwork

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


# what the class decides by itself is open: the smoothing, and where to start
undecided = partial(
    quick_table_model, latent_dim=2, histogram_smoothing=None, linear_start="auto", random_state=0
)


@pytest.fixture(scope="module")
def X() -> NDArray[np.float64]:  # noqa: N802
    return iris()


@pytest.fixture(scope="module")
def model(X: NDArray[np.float64]) -> TabularVAE:
    return undecided(max_steps=45).fit(X)


def test_a_fitted_model_follows_the_contract(model: TabularVAE, X: NDArray[np.float64]) -> None:
    assert isinstance(model, GenerativeModel)
    assert len(model.decoders_) == 2
    values = model.standardize(X)
    np.testing.assert_allclose(values.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(values.std(0), 1)
    np.testing.assert_allclose(model.unstandardize(values), X)


def test_training_improves_on_the_untrained_network(X: NDArray[np.float64]) -> None:
    untrained, trained = (
        undecided(n_decoders=1, likelihood="student_t", max_steps=n, linear_start=False).fit(X)
        for n in (1, 100)
    )
    first, *_, last = (
        look["valid_crps"] for vae in (untrained, trained) for look in vae.history_[0]
    )
    assert last < 0.75 * first
    assert trained.history_[0][-1]["train_loss"] < untrained.history_[0][0]["train_loss"]


def test_incomplete_rows_teach_as_well(X: NDArray[np.float64]) -> None:
    """No row is complete, yet petal length is still learned from petal width."""
    rng = np.random.default_rng(0)
    incomplete = X.copy()
    incomplete[np.arange(150), rng.integers(0, 4, 150)] = np.nan
    model = undecided(max_steps=300, likelihood="student_t", n_decoders=1).fit(incomplete)
    row = np.where(np.arange(4) == 2, np.nan, X[::10])
    completed = QAVIImputer(generative_model=model, random_state=0).fit(X).transform(row)
    error = completed[:, 2] - X[::10, 2]
    assert np.sqrt((error**2).mean()) < 0.4 * X[:, 2].std()


def test_bound_sums_over_observed_cells_only() -> None:
    likelihood = ColumnLikelihoods(["gaussian"] * 3)
    network = TabularNetwork(likelihood, 2, (8,), "tanh", torch_generator(0))
    x, observed = torch.randn(5, 3, generator=torch_generator(1)), torch.ones(5, 3).bool()
    observed[:, 1] = False
    zeros = torch.zeros(5, 2)

    def bound(values: torch.Tensor) -> torch.Tensor:
        fit, kl = network(values, observed, observed, 0.0 * values, zeros, ((values,),))
        return fit - kl

    changed = x.clone()
    changed[:, 1] = 7.0
    torch.testing.assert_close(bound(x), bound(changed))
    changed[:, 0] = 7.0
    assert not torch.allclose(bound(x), bound(changed))


def test_auto_chooses_families_by_column_and_candidate() -> None:
    rng = np.random.default_rng(0)
    table = np.column_stack([rng.normal(size=60), rng.integers(0, 2, 60), np.full(60, 3.0)])

    def fresh(**parameters: Any) -> TabularVAE:
        model = undecided(**parameters)
        model.n_categories_ = [None] * 3
        return model

    candidates = fresh()._candidates(table)
    assert [c.families for c in candidates] == [
        ["student_t", "bernoulli", "histogram"],
        ["histogram", "bernoulli", "histogram"],
        ["histogram", "bernoulli", "histogram"],
    ]
    assert [(c.smoothing, c.anneals) for c in candidates] == [
        (0.0, False),
        (1.0, False),
        (1.0, True),
    ]
    assert all(c.linear for c in candidates)  # too few rows for a random start
    many = fresh(likelihood="student_t", linear_start="auto")._candidates(np.tile(table, (10, 1)))
    assert [c.linear for c in many] == [True, False]
    for start in (True, False):
        chosen = fresh(likelihood="student_t", linear_start=start)._candidates(table)
        assert [c.linear for c in chosen] == [start]
    assert len(fresh(likelihood="histogram", histogram_smoothing=0.5)._candidates(table)) == 1
    with pytest.raises(ValueError, match="for each of the 3 columns"):
        fresh(likelihood=["gaussian"])._candidates(table)


def test_auto_prefers_the_histogram_on_atoms() -> None:
    """Two columns of two values and a rest, which tell of each other in half of the rows."""
    rng = np.random.default_rng(0)
    which = rng.integers(3, size=300)
    first = np.choose(which, [0.0, 8.0, 2.0 + rng.gamma(2.0, size=300)])
    second = np.choose(which, [0.0, -3.0, 5.0 + rng.gamma(2.0, size=300)])
    first = np.where(rng.random(300) < 0.5, first, rng.permutation(first))
    model = undecided(n_decoders=1, linear_start=True, max_steps=180).fit(
        np.column_stack([first, second])
    )
    assert model.families_ == [["histogram", "histogram"]]


def test_draws_of_an_atom_are_the_value_itself(tmp_path: Path) -> None:
    """A tenth is no sum of powers of two: standardizing and back would miss it by a bit."""
    rng = np.random.default_rng(0)
    table = np.column_stack(
        [
            np.where(rng.random(200) < 0.5, 0.1, rng.gamma(2.0, size=200)),
            rng.choice([0.3, 1e6 + 0.7], size=200),
            rng.normal(size=200),
        ]
    )
    model = undecided(
        n_decoders=1, likelihood=["histogram", "bernoulli", "student_t"], max_steps=45
    ).fit(table)
    assert model.atoms_ == [[0.1], [0.3, 1e6 + 0.7], []]
    model.save(tmp_path)
    for again in (model, TabularVAE.load(tmp_path)):
        imputer = QAVIImputer(generative_model=again, random_state=0).fit(table)
        draws = imputer.sample(np.full((60, 3), np.nan), n=20)
        assert 0.2 < (draws[..., 0] == 0.1).mean() < 0.8
        assert set(np.unique(draws[..., 1])) == {0.3, 1e6 + 0.7}


def test_same_seed_same_weights(X: NDArray[np.float64], model: TabularVAE) -> None:
    again = undecided(max_steps=45).fit(X)
    for first, second in zip(model.decoders_, again.decoders_, strict=True):
        for a, b in zip(first.parameters(), second.parameters(), strict=True):
            assert a.equal(b)
    # members of one ensemble differ
    weights = [next(iter(member.parameters())) for member in model.decoders_]
    assert not weights[0].equal(weights[1])


def test_training_that_still_improves_warns(X: NDArray[np.float64]) -> None:
    with pytest.warns(ConvergenceWarning, match=r"2 of 2 decoder\(s\) still improved"):
        undecided(max_steps=15).fit(X)


class TestSaving:
    @pytest.fixture
    def folder(self, model: TabularVAE, tmp_path: Path) -> Path:
        model.save(tmp_path / "vae")
        return tmp_path / "vae"

    def test_loaded_models_impute_the_same_bits(
        self, model: TabularVAE, folder: Path, X: NDArray[np.float64]
    ) -> None:
        loaded = TabularVAE.load(folder)
        incomplete = with_missing(X)
        first, second = (
            QAVIImputer(generative_model=m, random_state=0).fit(X).transform(incomplete)
            for m in (model, loaded)
        )
        np.testing.assert_array_equal(first, second)
        assert loaded.families_ == model.families_
        assert loaded.history_ == model.history_
        assert loaded.get_params()["latent_dim"] == 2

    def test_the_description_is_readable(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        assert config["kind"] == "TabularVAE"
        assert config["config"]["parameters"]["latent_dim"] == 2
        assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]

    def test_broken_files_are_refused(self, folder: Path) -> None:
        config, weights = folder / "config.json", folder / "model.safetensors"
        header, blob = read_json(config, "model"), weights.read_bytes()

        def broken(message: str, content: dict[str, Any] = header) -> None:
            write_json(config, content)
            with pytest.raises(ModelFormatError, match=message):
                TabularVAE.load(folder)

        weights.write_bytes(blob[: len(blob) // 2])
        broken("model.safetensors is not as it was saved")
        weights.write_bytes(blob)
        broken("does not describe", {"kind": "TabularVAE"})
        broken("Update sklearn_qavi", header | {"format_version": 99})
        broken("holds a Other, expected a TabularVAE", header | {"kind": "Other"})
        wrong = copy.deepcopy(header)
        wrong["tensors"]["mean"][1] = [9]
        broken(r"first \['mean'\]", wrong)
        narrow = copy.deepcopy(header)
        narrow["config"]["parameters"]["hidden_layer_sizes"] = [7]
        broken("do not fit its config", narrow)
        del narrow["config"]["families"]
        broken("lacks or misnames", narrow)
        write_json(config, header)

    def test_missing_files_are_refused(self, folder: Path) -> None:
        with pytest.raises(ModelFormatError, match="not a saved model"):
            TabularVAE.load(folder / "nowhere")
        (folder / "model.safetensors").unlink()
        with pytest.raises(ModelFormatError, match=r"model.safetensors is missing"):
            TabularVAE.load(folder)
        shutil.rmtree(folder)


def test_bootstrapped_decoders_learn_from_other_rows(X: NDArray[np.float64]) -> None:
    model = tiny_table_model(n_decoders=2, bootstrap=True, random_state=0)
    rows = [model._split(len(X), seed) for seed in range(40)]
    for train, validation in rows:
        assert len(train) == len(X)
        assert not set(train) & set(validation)
        assert set(train) | set(validation) == set(range(len(X)))
    # a row is drawn once on average, and left out with probability 1/e
    counts = np.array([np.bincount(train, minlength=len(X)) for train, _ in rows])
    assert counts.var() == pytest.approx(1, abs=0.05)
    assert (counts == 0).mean() == pytest.approx(np.exp(-1), abs=0.01)
    assert len(model.fit(X).decoders_) == 2


@pytest.mark.parametrize(("least", "max_steps"), [(10, 120), (110, 120), (200, 60)])
def test_bootstrapped_decoders_take_as_many_steps_as_served_the_first_best(
    X: NDArray[np.float64], monkeypatch: pytest.MonkeyPatch, least: int, max_steps: int
) -> None:
    followed: list[Any] = []

    def watched(members: Any, data: Any, recipe: Any, **options: Any) -> None:
        followed.append((len(members), recipe.max_steps))
        follow(members, data, recipe, **options)

    monkeypatch.setattr("sklearn_qavi.generative._table_training.follow", watched)
    monkeypatch.setattr("sklearn_qavi.generative._table_training._LEAST_STEPS", least)
    options = {"max_steps": max_steps, "n_decoders": 3, "random_state": 0}
    model = quick_table_model(bootstrap=True, **options).fit(X)
    best = min(model.history_[0], key=lambda look: look["valid_crps"])["steps"]
    expected = min(max(best, least), max_steps)
    assert followed == [(2, expected)]
    assert best > 0
    for history in model.history_[1:]:
        assert history[-1]["steps"] == expected
        assert not any("valid_crps" in look for look in history)
    assert model.validated_decoders_ == model.decoders_[:1]


def bound_of(model: TabularVAE, networks: list[TabularNetwork], X: NDArray[np.float64]) -> float:
    """Return the mean bound of complete rows in nats, with codes at their posteriors' means."""
    x = torch.from_numpy(model.standardize(X)).float()
    seen = torch.ones_like(x).bool()
    with torch.no_grad():
        parts = [
            network(x, seen, seen, 0 * x, torch.zeros(len(x), 3), network.likelihood.prepare(x))
            for network in networks
        ]
    return float(np.mean([(fit - kl).mean() for fit, kl in parts]))


def test_last_steps_learn_from_validation_rows_after_all_choices(X: NDArray[np.float64]) -> None:
    without, refitted = (
        quick_table_model(refit=refit, random_state=0).fit(X) for refit in (False, True)
    )
    for before, after in zip(without.decoders_, refitted.validated_decoders_, strict=True):
        for name, weight in before.state_dict().items():
            torch.testing.assert_close(weight, after.state_dict()[name], rtol=0, atol=0)
    np.testing.assert_array_equal(without.spread_, refitted.spread_)
    assert without.history_ == refitted.history_
    held_out = X[refitted.validation_rows_]
    known = bound_of(refitted, refitted.decoders_, held_out)
    assert known > bound_of(refitted, refitted.validated_decoders_, held_out)


@pytest.mark.parametrize(
    ("n_rows", "options"),
    [(19, {}), (150, {"bootstrap": True}), (150, {"validation_fraction": 0.04})],
)
def test_there_are_no_last_steps_where_validation_rows_teach_nothing(
    X: NDArray[np.float64], n_rows: int, options: dict[str, Any]
) -> None:
    without, refitted = (
        tiny_table_model(refit=refit, random_state=0, **options).fit(X[:n_rows])
        for refit in (False, True)
    )
    for one, other in zip(without.decoders_, refitted.decoders_, strict=True):
        for name, weight in one.state_dict().items():
            torch.testing.assert_close(weight, other.state_dict()[name], rtol=0, atol=0)


def test_rows_beyond_the_validation_rows_are_learned_from() -> None:
    train, validation = TabularVAE(validation_fraction=0.5)._split(2000, seed=0)
    assert len(validation) == 512
    assert sorted([*train, *validation]) == list(range(2000))


@pytest.mark.parametrize("bootstrap", [False, True])
def test_a_column_of_one_value_may_be_outside_of_the_training_rows(bootstrap: bool) -> None:
    X = np.random.default_rng(0).normal(size=(30, 3))
    X[:, 2] = np.nan
    X[7, 2] = 1.0
    for seed in range(8):
        model = tiny_table_model(bootstrap=bootstrap, random_state=seed).fit(X)
        assert model.atoms_[2] == [1.0]


def test_weights_count_like_repeated_rows() -> None:
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(-1, 0.3, (60, 2)), rng.normal(2, 0.3, (60, 2))])
    weight = np.repeat([3.0, 1.0], 60)
    repeated = np.concatenate([X, X[:60], X[:60]])
    model = undecided(n_decoders=1, likelihood="gaussian", linear_start=True, max_steps=300)
    weighted, plain, alike = (
        clone(model).fit(X, sample_weight=w) for w in (weight, None, np.full(len(X), 7.0))
    )
    np.testing.assert_allclose(weighted.mean_, repeated.mean(0))
    np.testing.assert_allclose(weighted.scale_, repeated.std(0))
    assert alike.history_[0][-1]["train_loss"] == plain.history_[0][-1]["train_loss"]
    # what the decoder makes of random codes: three quarters are of the heavy group
    for fitted, share in [(weighted, 0.75), (plain, 0.5)]:
        z = torch.randn(4000, 2, generator=torch_generator(0))
        member = fitted.decoders_[0]
        drawn = fitted.unstandardize(member.likelihood.mean(member.decode(z)).double().numpy())
        assert (drawn[:, 0] < 0.5).mean() == pytest.approx(share, abs=0.1)


def test_rows_without_weight_are_left_out(X: NDArray[np.float64]) -> None:
    spoiled = np.concatenate([X, np.full((20, 4), 1e6)])
    weight = np.repeat([1.0, 0.0], [len(X), 20])
    model = tiny_table_model(random_state=0)
    with_them = clone(model).fit(spoiled, sample_weight=weight)
    np.testing.assert_array_equal(with_them.mean_, model.fit(X).mean_)
    assert with_them.history_[0][0]["train_loss"] == model.history_[0][0]["train_loss"]
    with pytest.raises(ValueError, match="3 rows have a sample_weight above 0"):
        model.fit(X, sample_weight=np.arange(len(X)) < 3)
    with pytest.raises(ValueError, match="Negative"):
        model.fit(X, sample_weight=-np.ones(len(X)))


@pytest.mark.parametrize("shift", [0.0, 1.0, -1e9, 2.0**60, 4873214862074861312.0, 1e300, 1e-300])
@pytest.mark.parametrize("spread", [0.0, 1e-310, 1e-9, 1.0, 120.0, 1e200])
def test_standardized_columns_have_deviation_one_or_are_constant(
    shift: float, spread: float
) -> None:
    """Whatever their size: the deviation of n values, one of them apart, is at most sqrt(n - 1)."""
    X = shift + spread * np.arange(40.0).reshape(-1, 1)
    X = np.column_stack([X, np.where(np.arange(40) == 7, X[:, 0], X[0, 0])])
    vae = TabularVAE()
    vae.n_categories_ = [None, None]
    vae.atoms_ = [[], []]
    vae._learn_standardization(X, np.ones(40))
    values = vae.standardize(X)
    assert np.abs(values).max() <= np.sqrt(39) + 1  # rounding of the mean to the next float
    for j in range(2):
        if np.ptp(X[:, j]) > 64 * np.spacing(np.abs(X[:, j]).max()):
            np.testing.assert_allclose(values[:, j].std(), 1.0, rtol=0.02)


def test_a_fit_keeps_to_one_thread_and_leaves_the_setting(
    X: NDArray[np.float64], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def watched(*args: Any, **kwargs: Any) -> Any:
        seen.append(torch.get_num_threads())
        return race(*args, **kwargs)

    monkeypatch.setattr("sklearn_qavi.generative._table_training.race", watched)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        tiny_table_model(random_state=0, device="cpu").fit(X)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {1}


def test_a_fit_is_the_same_whatever_the_number_of_threads() -> None:
    X = np.random.default_rng(0).normal(size=(170, 13)) @ np.random.default_rng(1).normal(
        size=(13, 13)
    )
    options = {"likelihood": "gaussian", "n_decoders": 1, "max_steps": 30, "device": "cpu"}
    before, fitted = torch.get_num_threads(), []
    for n_threads in (1, 2):
        torch.set_num_threads(n_threads)
        try:
            fitted.append(TabularVAE(random_state=0, **options).fit(X).decoders_[0].state_dict())
        finally:
            torch.set_num_threads(before)
    for name, weight in fitted[0].items():
        assert torch.equal(weight, fitted[1][name]), name
