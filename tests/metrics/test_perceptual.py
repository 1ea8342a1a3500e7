"""Scores of sets of images against closed forms, known orders and known limits."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.stats import norm

from sklearn_qavi.metrics import frechet_distance, p_ids, u_ids
from sklearn_qavi.metrics._perceptual import _fitted


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def features_with_moments(rng, n, mean, covariance):
    """Return n features whose sample mean and covariance are exactly those."""
    raw = rng.normal(size=(n, len(mean)))
    white, _ = np.linalg.qr(raw - raw.mean(axis=0))
    return mean + np.sqrt(n - 1) * white @ np.linalg.cholesky(covariance).T


def random_covariance(rng, n_features):
    factor = rng.normal(size=(n_features, n_features))
    return factor @ factor.T + np.eye(n_features)


def closed_form(mean, covariance, mean_2, covariance_2):
    """The squared Wasserstein distance of two normal distributions."""
    root = np.real(sqrtm(covariance))
    common = np.real(sqrtm(root @ covariance_2 @ root))
    return ((mean - mean_2) ** 2).sum() + np.trace(covariance + covariance_2 - 2 * common)


@pytest.mark.parametrize("n", [7, 50])
def test_frechet_distance_is_the_closed_form_of_the_moments(rng, n):
    moments = [(rng.normal(size=6), random_covariance(rng, 6)) for _ in range(2)]
    real, completed = (features_with_moments(rng, n + i, *m) for i, m in enumerate(moments))
    expected = closed_form(*moments[0], *moments[1])
    assert frechet_distance(real, completed) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(completed, real) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_samples_of_normal_distributions(rng):
    # independent features: shift^2 + (sd - sd')^2 each
    real = rng.normal(size=(20_000, 3)) * [1.0, 2.0, 1.0]
    completed = rng.normal(size=(20_000, 3)) * [3.0, 2.0, 1.0] + [0.0, 0.0, 2.0]
    assert frechet_distance(real, completed) == pytest.approx(4.0 + 4.0, rel=0.03)


def test_frechet_distance_with_fewer_images_than_features(rng):
    real, completed = rng.normal(size=(5, 3)), 2.0 * rng.normal(size=(6, 3)) + 1.0
    basis, _ = np.linalg.qr(rng.normal(size=(40, 3)))  # 3 of 40 dimensions
    expected = frechet_distance(real, completed)
    assert frechet_distance(real @ basis.T, completed @ basis.T) == pytest.approx(expected)
    assert frechet_distance(real @ basis.T, real @ basis.T) == pytest.approx(0.0, abs=1e-12)


def test_frechet_distance_does_not_cancel_far_from_the_origin(rng):
    real, completed = rng.normal(size=(200, 8)), 1.5 * rng.normal(size=(200, 8))
    expected = frechet_distance(real, completed)
    # features near 10^6 are rounded to 10^-10 themselves
    assert frechet_distance(real + 1e6, completed + 1e6) == pytest.approx(expected, abs=1e-7)


def test_frechet_distance_of_one_distribution_falls_as_one_over_the_images(rng):
    few, many = (
        np.array([frechet_distance(*rng.normal(size=(2, n, 4))) for _ in range(400)])
        for n in (100, 400)
    )
    ratio = few.mean() / many.mean()
    error = ratio * np.sqrt(sum(d.var() / d.mean() ** 2 / len(d) for d in (few, many)))
    assert ratio == pytest.approx(4.0, abs=4 * error)
    assert error < 0.15


def test_scores_do_not_depend_on_the_order(rng):
    real, completed = rng.normal(size=(90, 4)), rng.normal(size=(90, 4)) + 0.5
    order = rng.permutation(90)
    for score in (frechet_distance, u_ids, p_ids):
        again = score(real[order], completed[order])
        assert again == pytest.approx(score(real, completed), rel=1e-12)
    for score in (frechet_distance, u_ids):  # nor on which completion belongs to which image
        again = score(real, completed[order])
        assert again == pytest.approx(score(real, completed), rel=1e-12)


@pytest.mark.parametrize("cv", [None, 10])
def test_ids_of_many_images_reach_the_error_of_the_best_classifier(rng, cv):
    # two unit normals at distance d: the best linear classifier errs with probability Phi(-d / 2)
    real, completed = rng.normal(size=(2, 4000, 3))
    completed[:, 0] += 1.0
    # standard errors .005 and .007
    assert u_ids(real, completed, cv=cv) == pytest.approx(norm.cdf(-0.5), abs=0.02)
    assert p_ids(real, completed, cv=cv) == pytest.approx(norm.cdf(-np.sqrt(0.5)), abs=0.02)


@pytest.mark.parametrize("cv", [None, 5])
def test_ids_of_sets_far_apart_is_zero_and_of_one_distribution_a_half(rng, cv):
    real, good = rng.normal(size=(2, 2000, 3))
    assert u_ids(real, good, cv=cv) == pytest.approx(0.5, abs=0.05)
    assert p_ids(real, good, cv=cv) == pytest.approx(0.5, abs=0.05)
    assert u_ids(real, good + 9.0, cv=cv) == 0.0
    assert p_ids(real, good + 9.0, cv=cv) == 0.0


def test_ids_of_few_images_are_zero_in_sample_and_not_held_out(rng):
    real, good = rng.normal(size=(2, 60, 200))
    for score in (u_ids, p_ids):
        with pytest.warns(UserWarning, match=r"120 images are few for 200 features.*cv=10"):
            assert score(real, good) == 0.0
        assert score(real, good, cv=10) == pytest.approx(0.5, abs=0.15)


def mean_u_ids(n, distance, cv):
    sets = np.random.default_rng(n).normal(size=(6, 2, n, 24))
    sets[:, 1, :, 0] += distance
    return np.mean([u_ids(*pair, cv=cv) for pair in sets])


def test_the_score_of_many_images_lies_between_the_two():
    limit, gaps = norm.cdf(-0.75), []
    for n in (60, 240, 1000):
        in_sample, held_out = mean_u_ids(n, 1.5, None), mean_u_ids(n, 1.5, 10)
        error = np.sqrt(limit * (1 - limit) / (6 * 2 * n))  # standard error of a share
        assert in_sample < limit + 3 * error
        assert limit - 3 * error < held_out
        gaps.append(held_out - in_sample)
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2]


def test_chance_is_a_half_for_any_number_of_images_held_out_only():
    numbers = (30, 60, 240, 1000)
    held_out = [mean_u_ids(n, 0.0, 10) for n in numbers]
    np.testing.assert_allclose(held_out, 0.5, atol=0.06)
    assert mean_u_ids(30, 0.0, None) < 0.2
    assert mean_u_ids(1000, 0.0, None) > 0.4


def test_unequal_sets_count_the_same(rng):
    # errors of a classifier that goes by the larger set would be .21
    real, completed = rng.normal(size=(8000, 1)), rng.normal(size=(2000, 1)) + 2.0
    for cv in (None, 4):
        assert u_ids(real, completed, cv=cv) == pytest.approx(norm.cdf(-1.0), abs=0.015)


def test_a_pair_is_never_divided_between_training_and_test(rng):
    # a completion whose real image was seen would pass for real, far more often than by chance
    real = rng.normal(size=(100, 300))
    completed = real + 0.05 * rng.normal(size=real.shape)
    assert u_ids(real, completed, cv=5) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("noise", [0.05, 5.0])  # the dual is not solved for the first
def test_the_classifier_of_few_images_is_the_optimum(rng, noise):
    real = rng.normal(size=(80, 300))
    completed = real + noise * rng.normal(size=real.shape)
    judge = _fitted(real, completed)
    seen = np.column_stack([np.concatenate([real, completed]), np.ones(160)])
    sign = np.repeat([1.0, -1.0], 80)
    weights = np.append(judge.coef_, judge.intercept_)
    # of |w|^2 / 2 + the sum of squared hinges, which has one minimum
    hinge = np.maximum(0.0, 1.0 - sign * (seen @ weights))
    gradient = weights - 2.0 * (sign * hinge) @ seen
    # where either solver may stop: no gradient of a dual variable beyond its tolerance, or no more
    # than half the tolerance of the gradient at zero, 2 |seen' sign|
    tolerance = 1e-6
    allowed = 2.0 * tolerance * np.sqrt(160) * np.linalg.norm(seen, 2)
    assert np.linalg.norm(gradient) < allowed


def test_every_image_is_judged_once(rng):
    real, completed = rng.normal(size=(23, 2)), rng.normal(size=(17, 2)) + 50.0
    completed[3] -= 50.0  # passes for real, in whichever fold
    assert u_ids(real, completed, cv=7) == pytest.approx(1 / 17 / 2)


@pytest.mark.parametrize("cv", [None, 4])
def test_equal_images_tie(rng, cv):
    real = rng.normal(size=(50, 3))
    assert p_ids(real, real, cv=cv) == 0.5
    assert u_ids(real, real, cv=cv) == 0.5


@pytest.mark.parametrize("cv", [None, 4])
def test_p_ids_counts_the_pairs_in_which_the_completion_leads(cv):
    real = np.linspace(5.0, 6.0, 40)[:, None]
    completed = real - 2.0
    completed[:10] = real[:10] + 0.1  # a quarter lead
    completed[10:14] = real[10:14]  # a tenth tie
    assert p_ids(real, completed, cv=cv) == pytest.approx(0.25 + 0.05)


def test_folds_depend_on_the_seed_alone(rng):
    real, completed = rng.normal(size=(2, 60, 10))
    scores = [u_ids(real, completed, cv=5, random_state=seed) for seed in (0, 0, 1, 2, 3)]
    assert scores[0] == scores[1]
    assert len(set(scores)) > 1


@pytest.mark.parametrize("score", [frechet_distance, u_ids, p_ids])
def test_images_and_an_extractor_give_the_score_of_the_features(score, rng):
    real, completed = rng.random((2, 30, 1, 8, 8))
    pool = torch.nn.AvgPool2d(4)
    features = [
        images.reshape(30, 2, 4, 2, 4).mean(axis=(2, 4)).reshape(30, 4)
        for images in (real, completed)
    ]
    result = score(real, completed, extractor=pool, batch_size=7)
    assert result == pytest.approx(score(*features), rel=1e-9)


def test_inputs_are_not_changed(rng):
    real, completed = rng.normal(size=(2, 20, 3))
    kept = real.copy()
    for array in (real, completed):
        array.flags.writeable = False
    frechet_distance(real, completed)
    u_ids(real, completed, cv=2)
    p_ids(real, completed)
    np.testing.assert_array_equal(real, kept)


FEATURES = np.random.default_rng(0).normal(size=(20, 3))
INCOMPLETE = np.where(np.arange(20)[:, None] == 4, np.nan, FEATURES)


@pytest.mark.parametrize("score", [frechet_distance, u_ids, p_ids])
@pytest.mark.parametrize(
    ("real", "completed", "message"),
    [
        (FEATURES, FEATURES[:, :2], "real has 3 features, but completed has 2"),
        (FEATURES.reshape(20, 3, 1), FEATURES, r"real must be features.*\(20, 3, 1\).*extractor"),
        (FEATURES, FEATURES[:1], r"completed must have at least two images.*\(1, 3\)"),
        (FEATURES[:, :0], FEATURES[:, :0], "and one feature"),
        (FEATURES, INCOMPLETE, "completed has NaN or infinite features in 1 of 20 images"),
        (FEATURES * np.inf, FEATURES, "real has NaN or infinite features in 20 of 20"),
    ],
)
def test_errors_say_what_was_expected_and_what_came(score, real, completed, message):
    with pytest.raises(ValueError, match=message):
        score(real, completed)


@pytest.mark.parametrize("cv", [0, 1, 11, -3])
def test_folds_must_fit_the_images(cv):
    with pytest.raises(ValueError, match=f"from 2 to that of the images, 10, got {cv}"):
        u_ids(FEATURES, FEATURES[:10], cv=cv)


def test_p_ids_needs_pairs():
    with pytest.raises(ValueError, match="20 real images and 10 completed ones; u_ids needs no"):
        p_ids(FEATURES, FEATURES[:10])
