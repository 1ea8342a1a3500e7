"""Every module has a test file of its own name, or is listed here with the file that tests it."""

from pathlib import Path

import pytest

import sklearn_qavi

ROOT = Path(sklearn_qavi.__file__).parent
TESTS = Path(__file__).parent

# a test file of several modules: they share one contract, or only matter together
ELSEWHERE = {
    "test_imputer.py": ["_base.py", "_row_inference.py", "inference/_methods.py"],
    "test_score_missing.py": ["_summaries.py", "metrics/_log_scores.py", "sampling/_scores.py"],
    "test_common.py": ["_sklearn_compat.py"],
    "test_command_line.py": ["__main__.py", "inpaint.py", "train.py"],
    "test_impute.py": ["_cli/_tables.py"],
    "test_containers.py": ["preprocessing/_containers.py", "preprocessing/_filling.py"],
    "test_mixed_tables.py": ["generative/_inputs.py"],
    "test_sampling.py": [
        "inference/_context.py",
        "sampling/_averages.py",
        "sampling/_blocks.py",
        "sampling/_draws.py",
        "sampling/_mode.py",
        "sampling/_pool.py",
        "sampling/_pooled.py",
    ],
    "test_pixel_noise.py": [
        "generative/_shared_noise.py",
        "sampling/_given.py",
        "sampling/_pixel_noise.py",
    ],
    "baselines/test_baselines.py": [
        "baselines/_amortised.py",
        "baselines/_chains.py",
        "baselines/_fill_zeros.py",
        "inference/posteriors/_codes.py",
    ],
    "generative/test_tabular_vae.py": [
        "generative/_checkpoint.py",
        "generative/_network.py",
        "generative/_training.py",
    ],
    "generative/test_wide_resnet_vae.py": ["generative/_image_vae.py"],
    "generative/test_linear_start.py": ["generative/_likelihoods/_marginals.py"],
    "generative/test_resume.py": ["generative/_data.py", "generative/_distributed.py"],
    "generative/test_likelihoods.py": [
        "generative/_likelihoods/_base.py",
        "generative/_likelihoods/_bernoulli.py",
        "generative/_likelihoods/_categorical.py",
        "generative/_likelihoods/_columns.py",
        "generative/_likelihoods/_histogram.py",
        "generative/_likelihoods/_location_scale.py",
        "generative/_likelihoods/_log_softmax.py",
    ],
    "generative/test_image_likelihoods.py": [
        "generative/_likelihoods/_continuous_bernoulli.py",
        "generative/_likelihoods/_image.py",
        "generative/_likelihoods/_image_table.py",
        "generative/_likelihoods/_levels.py",
        "generative/_likelihoods/_logistic_mixture.py",
        "generative/_likelihoods/_logistic_sums.py",
    ],
    "inference/test_engine.py": [
        "inference/_adam.py",
        "inference/_blocks.py",
        "inference/_optimizer.py",
        "inference/_settings.py",
    ],
    "inference/test_encoder_start.py": ["inference/_initialization.py"],
    "inference/test_correction.py": ["inference/_result.py"],
    "inference/test_hierarchical.py": ["inference/_noise.py"],
    "inference/test_feature_posterior.py": ["inference/posteriors/_feature.py"],
    "inference/posteriors/test_hierarchical.py": ["inference/_objectives.py"],
    "inference/posteriors/test_families.py": [
        "inference/posteriors/_base.py",
        "inference/posteriors/_flow.py",
        "inference/posteriors/_gaussian.py",
    ],
    "plotting/test_looks.py": ["plotting/_axes.py", "plotting/_legend.py"],
    "plotting/test_distributions.py": ["plotting/_columns.py", "plotting/_tables.py"],
    "preprocessing/test_table.py": ["preprocessing/_frames.py", "preprocessing/_rows.py"],
}

# types and names without anything to run
UNTESTED = ["_typing.py", "exceptions.py", "generative/_base.py"]

LISTED = {module: test for test, modules in ELSEWHERE.items() for module in modules}
MODULES = [
    path.relative_to(ROOT).as_posix()
    for path in sorted(ROOT.rglob("*.py"))
    if path.name != "__init__.py"
]


def own_test(module: str) -> Path:
    """Return where ``a/_b.py`` is tested unless listed: ``a/test_b.py``."""
    *folders, name = (part.removeprefix("_") for part in module.split("/"))
    return TESTS.joinpath(*folders, f"test_{name}")


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_its_test(module: str) -> None:
    own = own_test(module)
    if module in LISTED or module in UNTESTED:
        assert not own.exists(), f"{own.name} exists: take {module} off the list in this file."
    else:
        assert own.exists(), f"Write {own.name}, or say in this file what tests {module}."


def test_the_list_names_what_exists() -> None:
    assert {*LISTED, *UNTESTED} <= set(MODULES)
    assert sum(map(len, ELSEWHERE.values())) == len(LISTED)
    for test in ELSEWHERE:
        assert (TESTS / test).exists(), f"{test} is not there."
