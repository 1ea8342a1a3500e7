"""Imports go one way: estimator -> preprocessing -> generative -> {inference, sampling}.

Baselines stand beside the estimator's other stages: they train networks and follow the protocol
of `inference`.
"""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import sklearn_qavi

PACKAGE = "sklearn_qavi"
ROOT = Path(sklearn_qavi.__file__).parent

# Stage -> the stages it may import. A stage is the first name below the package.
STAGES = {
    "__main__": {"", "impute", "inpaint", "train"},
    "impute": {"_cli", "_command_line", "_imputer"},
    "_cli": {"", "plotting", "preprocessing"},
    "inpaint": {"_command_line", "_inpainter", "_persistence", "datasets", "metrics"},
    "train": {"_command_line", "datasets", "generative"},
    "_command_line": set(),
    "partitions": {"_imputer"},
    "_multiple_imputation": {
        "_imputer",
        "_completions",
        "_analyses",
        "generative",
        "pooling",
        "preprocessing",
    },
    "_completions": {"preprocessing"},
    "pooling": {"_analyses", "_shift"},
    "_shift": set(),
    "_analyses": set(),
    "_inpainter": {
        "_base",
        "_row_inference",
        "_summaries",
        "preprocessing",
        "generative",
        "sampling",
        "inference",
    },
    "_imputer": {
        "_base",
        "_chunks",
        "_expected_error",
        "_model_units",
        "_row_inference",
        "_summaries",
        "preprocessing",
        "generative",
        "sampling",
        "inference",
    },
    "_base": {
        "_row_inference",
        "_summaries",
        "_persistence",
        "generative",
        "sampling",
        "baselines",
        "inference",
    },
    "_model_units": {"_summaries", "generative", "preprocessing"},
    "_expected_error": {"generative", "metrics", "preprocessing"},
    "_row_inference": {"_chunks", "_summaries", "preprocessing", "sampling"},
    "_summaries": {"_chunks", "_code_draws", "preprocessing", "sampling"},
    "_code_draws": {"sampling"},
    "_chunks": {"sampling"},
    "_persistence": {"baselines", "generative", "inference", "preprocessing"},
    "preprocessing": {"generative", "sampling", "inference"},
    "baselines": {"generative", "inference"},
    "generative": {"sampling", "inference", "datasets"},
    "sampling": {"inference"},
    "inference": set(),
}
SHARED = {
    "_caching",
    "_checks",
    "_device",
    "_files",
    "_interrupts",
    "_plan",
    "_progress",
    "_random",
    "_sklearn_compat",
    "_spread",
    "_typing",
    "exceptions",
}
# they import nothing of ours but checks of input, types, the exceptions and themselves
LEAVES = {"metrics", "plotting", "datasets"}

# What has to stay away until it is used
HEAVY = {"PIL", "accelerate", "dask", "matplotlib", "polars", "scoringrules", "sphinx"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def imported_names(name: str) -> set[str]:
    """Return the dotted names that a module imports, wherever in the file, made absolute."""
    path = MODULES[name]
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *filter(None, [node.module])])
            found |= {f"{source}.{alias.name}" for alias in node.names}
    return found


def own_imports(name: str) -> set[str]:
    """Return the modules of this package that a module imports."""
    modules = set()
    for target in imported_names(name):
        if target.split(".")[0] == PACKAGE:
            # `from .a import b` names a module a.b or something inside the module a
            modules.add(target if target in MODULES else target.rpartition(".")[0])
    return modules


def stage_of(name: str) -> str:
    return [*name.split("."), ""][1]


def allowed_stages(stage: str) -> set[str]:
    if stage in LEAVES:
        return {stage, "_checks", "_typing", "exceptions"}
    if stage in SHARED:
        return SHARED
    return {stage} | STAGES[stage] | SHARED


@pytest.mark.parametrize("name", MODULES)
def test_every_module_has_a_stage(name):
    known = STAGES.keys() | SHARED | LEAVES | {""}
    assert stage_of(name) in known, f"Say in this file which stage {name} belongs to."


@pytest.mark.parametrize("name", [name for name in MODULES if stage_of(name)])
def test_imports_go_one_way(name):
    stage = stage_of(name)
    wrong = {
        target for target in own_imports(name) if stage_of(target) not in allowed_stages(stage)
    }
    assert not wrong, f"{name} belongs to {stage!r}, which may not import {sorted(wrong)}."


@pytest.mark.parametrize("name", MODULES)
def test_targets_exist(name):
    assert own_imports(name) <= MODULES.keys()


def test_no_cycles():
    # raises CycleError, which names the modules on the cycle
    list(TopologicalSorter({name: own_imports(name) for name in MODULES}).static_order())


@pytest.mark.parametrize("name", [n for n in MODULES if n != f"{PACKAGE}._sklearn_compat"])
def test_private_names_of_sklearn_come_through_one_file(name):
    private = {
        target
        for target in imported_names(name)
        if target.startswith("sklearn.") and any(p.startswith("_") for p in target.split("."))
    }
    assert not private, f"Import {sorted(private)} through _sklearn_compat."


def test_import_is_light():
    code = f"import sys, {PACKAGE}; print(*({HEAVY!r} & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == []


def test_a_fit_imports_no_algebra():
    """Functions of torch that reason about shapes import sympy, which takes a second."""
    code = f"""
import sys, numpy as np
from {PACKAGE}.generative import TabularVAE
vae = TabularVAE(likelihood="histogram", n_decoders=1, max_steps=1, random_state=0)
vae.fit(np.random.default_rng(0).standard_normal((30, 2)))
print("sympy" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == ["False"]
