"""Training side by side: what is kept, who goes on, and when it ends."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch

from sklearn_qavi._random import torch_generator
from sklearn_qavi.exceptions import TrainingDivergedError
from sklearn_qavi.generative import _ensemble
from sklearn_qavi.generative._data import TableData
from sklearn_qavi.generative._ensemble import (
    LastSteps,
    Recipe,
    TrainedMember,
    follow,
    patience,
    race,
)
from sklearn_qavi.generative._likelihoods import ColumnLikelihoods
from sklearn_qavi.generative._network import TabularNetwork

N = 60


def data() -> TableData:
    x = torch.randn(N, 3, generator=torch_generator(0))
    x[:, 1] = x[:, 0] + 0.1 * x[:, 1]
    return TableData(x, torch.ones_like(x).bool())


def member(seed: int, family: str = "gaussian", **options: bool) -> TrainedMember:
    likelihood = ColumnLikelihoods([family] * 3)
    network = TabularNetwork(likelihood, 1, (4,), "tanh", torch_generator(seed))
    return TrainedMember(network, torch.arange(N), **options)


def run(
    members: list[TrainedMember],
    score: Callable[[TabularNetwork, TrainedMember], float],
    recipe: Recipe,
    n_wanted: int | None = None,  # all
) -> list[tuple[int, int]]:
    looks: list[tuple[int, int]] = []
    race(
        members,
        data(),
        score,
        recipe,
        seed=1,
        n_wanted=len(members) if n_wanted is None else n_wanted,
        on_look=lambda step, end: looks.append((step, end)),
        device=torch.device("cpu"),
    )
    return looks


def loss(network: TabularNetwork, of: TrainedMember) -> float:
    """Return the negative bound of all rows, without noise."""
    x, observed = data().x, data().observed
    with torch.no_grad():
        prepared = network.likelihood.prepare(x)
        fit, kl = network(x, observed, observed, 0 * x, torch.zeros(N, 1), prepared)
    return float((kl - fit).mean())


def test_the_best_look_is_kept_and_its_weights_reach_its_score() -> None:
    members = [member(0), member(1, has_start=True)]
    run(members, loss, Recipe(max_steps=300))
    for one in members:
        scores = [look["valid_crps"] for look in one.history]
        assert one.score == min(scores)
        assert loss(one.network, one) == pytest.approx(one.score, abs=1e-6)
        assert one.score < scores[0] - 0.2  # it has learned


def test_networks_of_other_families_leave_and_the_rest_learns_on() -> None:
    members = [member(0, "student_t"), member(1), member(2), member(3, "student_t")]

    def score(network: TabularNetwork, of: TrainedMember) -> float:
        return loss(network, of) + (5.0 if network.likelihood.families[0] == "gaussian" else 0.0)

    run(members, score, Recipe(max_steps=300), n_wanted=2)
    for one in members:
        steps, scores = ([look[k] for look in one.history] for k in ("steps", "valid_crps"))
        assert score(one.network, one) == pytest.approx(one.score, abs=1e-5)
        if one.families[0] == "student_t":
            assert steps[-1] == 300
            assert one.score == min(scores) < scores[steps.index(100)] - 0.02
        else:
            assert steps[-1] == 100


def test_a_start_that_is_never_beaten_is_kept() -> None:
    start = member(0, has_start=True)
    before = {name: weight.clone() for name, weight in start.network.state_dict().items()}
    scores = iter([1.0, *[2.0] * 100])
    run([start], lambda network, of: next(scores), Recipe(max_steps=10**6))
    assert start.last_gain == 0
    assert start.settled
    for name, weight in start.network.state_dict().items():
        torch.testing.assert_close(weight, before[name], rtol=0, atol=0)


def test_a_network_ends_when_it_has_settled_and_others_go_on() -> None:
    early, late = member(0), member(1)

    def score(network: TabularNetwork, of: TrainedMember) -> float:
        return 1.0 if of is early else 1.0 / (1 + len(of.history))

    looks = run([early, late], score, Recipe(max_steps=1000))
    assert early.settled
    assert not late.settled
    ended = int(early.history[-1]["steps"])
    first = Recipe(max_steps=1000).looks()[0]
    assert ended - first >= patience(N, first)
    assert looks[-1][0] == late.history[-1]["steps"] == 1000
    # what is left is expected from the network that goes on
    assert all(step <= end <= 1000 for step, end in looks)


def test_families_that_are_far_behind_go_early_and_then_all_but_the_best() -> None:
    order = {"student_t": 1.2, "gaussian": 1.0}
    members = [member(0), member(1), member(2), member(3, "student_t")]

    def score(network: TabularNetwork, of: TrainedMember) -> float:
        worse = 1 + 0.01 * members.index(of)
        return order[of.families[0]] * worse * 0.9 ** len(of.history)

    run(members, score, Recipe(max_steps=1000), n_wanted=2)
    steps = [int(one.history[-1]["steps"]) for one in members]
    assert steps[3] == min(k for k in Recipe(max_steps=1000).looks() if k >= 100)
    assert steps[2] == min(k for k in Recipe(max_steps=1000).looks() if k >= 400)
    assert steps[0] == steps[1] == 1000


def test_what_would_not_be_best_is_not_waited_for_long() -> None:
    first, slow = member(0), member(1)

    def score(network: TabularNetwork, of: TrainedMember) -> float:
        return 1.0 if of is first else 1.14 * 0.988 ** len(of.history)

    run([first, slow], score, Recipe(max_steps=5000), n_wanted=2)
    ended = first.history[-1]["steps"]
    looks = Recipe(max_steps=5000).looks()
    assert slow.history[-1]["steps"] == next(step for step in looks if step >= 1.2 * ended)


def test_a_late_starter_goes_on_if_it_will_be_best() -> None:
    flat, steep = member(0), member(1)

    def score(network: TabularNetwork, of: TrainedMember) -> float:
        return 1.0 - 0.004 * len(of.history) if of is flat else 1.3 - 0.05 * len(of.history)

    run([flat, steep], score, Recipe(max_steps=800), n_wanted=1)
    assert steep.history[-1]["steps"] == 800
    assert flat.history[-1]["steps"] < 800


def test_step_sizes_rise_stay_and_fall() -> None:
    recipe = Recipe(learning_rate=0.1, warmup=10, constant_until=100)
    sizes = [recipe.step_size(step) for step in range(1000)]
    np.testing.assert_allclose(sizes[:10], 0.01 * np.arange(1, 11))
    np.testing.assert_allclose(sizes[10:101], 0.1)
    assert sizes[400] == pytest.approx(0.05)


def test_smoothing_stays_and_then_falls_to_nothing() -> None:
    recipe = Recipe(smooth_until=100)
    assert recipe.remaining(0) == recipe.remaining(100) == 1.0
    assert recipe.remaining(300) == 0.5
    assert recipe.remaining(10**7) < 1e-4


def test_each_network_learns_from_its_own_rows() -> None:
    """The halves are told apart by a shift: each network finds the mean of its half."""
    shifted = data()
    shifted.x[: N // 2] += 2.0
    halves = [torch.arange(N // 2), torch.arange(N // 2, N)]
    members = [member(seed) for seed in range(2)]
    looks: list[tuple[int, int]] = []
    for one, rows in zip(members, halves, strict=True):
        one.rows = rows
    follow(
        members,
        shifted,
        Recipe(max_steps=400),
        seed=0,
        on_look=lambda step, end: looks.append((step, end)),
        device=torch.device("cpu"),
    )
    assert looks == [(step, 400) for step in Recipe(max_steps=400).looks()]
    for one, rows in zip(members, halves, strict=True):
        x = shifted.x[rows]
        with torch.no_grad():
            mean, _ = one.network.encode(x, torch.ones_like(x).bool())
            fitted = one.network.likelihood.mean(one.network.decode(mean)).mean(0)
        torch.testing.assert_close(fitted, x.mean(0), rtol=0, atol=0.5)
        assert one.settled
        assert [set(look) for look in one.history] == [{"train_loss", "steps"}] * len(looks)


def test_networks_that_follow_end_with_the_average_of_their_weights() -> None:
    """With one step of a size that makes the average of two weights tell."""
    average, last = member(0), member(0)
    start = copy.deepcopy(average.network)
    for one, share in ((average, 2.0), (last, 10.0)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_ensemble, "_AVERAGED_SHARE", share)  # 1/3 of the first step, 9/11
            follow(
                [one],
                data(),
                LastSteps(learning_rate=0.1, max_steps=1),
                seed=0,
                on_look=lambda step, end: None,
                device=torch.device("cpu"),
            )
    moved = False
    for name, weight in start.named_parameters():
        third, most = (
            one.network.get_parameter(name).detach() - weight.detach() for one in (average, last)
        )
        torch.testing.assert_close(3 * third, 11 / 9 * most, rtol=1e-4, atol=1e-6)
        moved |= bool(most.abs().max() > 1e-3)
    assert moved


def test_last_steps_fall_to_nothing_and_are_adams() -> None:
    recipe = LastSteps(learning_rate=0.1, max_steps=50)
    sizes = [recipe.step_size(step) for step in range(50)]
    np.testing.assert_allclose(sizes, 0.002 * np.arange(50, 0, -1))
    assert recipe.widest_basis == 0


def test_the_average_is_over_about_the_last_tenth_of_the_steps() -> None:
    """A number that grows by one at each step is averaged to the step less a tenth of it."""
    average = 0.0
    for step in range(1, 2001):
        average += (
            (_ensemble._AVERAGED_SHARE - 1) / (_ensemble._AVERAGED_SHARE + step) * (step - average)
        )
    assert average == pytest.approx(0.9 * 2000, rel=0.01)


def test_a_loss_that_is_not_finite_is_an_error() -> None:
    broken = member(0)
    with torch.no_grad():
        broken.network.decoder.layers[0].weight.fill_(torch.nan)  # type: ignore[operator, union-attr]
    with pytest.raises(TrainingDivergedError, match="Lower learning_rate"):
        run([broken], loss, Recipe(max_steps=50))
