"""Every public name is documented: numpydoc's validator is content, and docs/api.rst lists it."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from numpydoc.validate import validate

import sklearn_qavi

API_PAGE = Path(__file__).parents[1] / "docs" / "api.rst"

# Stages between the estimator and the user-facing modules: documented in place, not promised.
INTERNAL = {"sklearn_qavi.preprocessing"}

IGNORED = {
    "ES01": "a one-sentence summary is often all there is to say",
    "EX01": "small building blocks are shown at work by the examples of what uses them",
    "GL01": "the summary starts on the line of the quotes, as in scikit-learn",
    "SA01": "not everything has a relative worth naming",
    "SA04": "a name in See Also may speak for itself",
    "PR08": "a description may begin with a symbol, such as log q(z)",
    "RT02": "what is returned has a name as well as a type, as in scikit-learn",
    "RT03": "a description may begin with a symbol, as for PR08",
    "YD01": "an iterator's docstring says what it yields in its summary",
}
# Methods inside the building blocks have a one-line contract: "Return codes (S, B, L) from noise".
IGNORED_IN_METHODS = {
    "PR01": "shapes of the arguments stand in the summary",
    "RT01": "shape and units of what is returned stand in the summary",
}
FULLY_DOCUMENTED = {
    "QAVIImputer",
    "QAVIInpainter",
    "MultipleImputationClassifier",
    "MultipleImputationRegressor",
    "TabularVAE",
    "DrawsDisplay",
    "InpaintingDisplay",
} | {f"{name}Display" for name in ("BoundTrace", "Cell", "Coverage", "Distribution", "Missingness")}


def public_modules() -> list[ModuleType]:
    names = ["sklearn_qavi"]
    for info in pkgutil.walk_packages(sklearn_qavi.__path__, "sklearn_qavi."):
        private = any(part.startswith("_") for part in info.name.split("."))
        if not private and not any(info.name.startswith(name) for name in INTERNAL):
            names.append(info.name)
    return [importlib.import_module(name) for name in names]


def exported(module: ModuleType) -> list[str]:
    if hasattr(module, "__all__"):
        return [name for name in module.__all__ if not name.startswith("_")]
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def public_names() -> dict[str, Any]:
    """Return dotted name -> object; what two modules export counts where the path is shorter."""
    found: dict[int, tuple[str, Any]] = {}
    for module in sorted(public_modules(), key=lambda m: (m.__name__.count("."), m.__name__)):
        for name in exported(module):
            value = getattr(module, name)
            if not inspect.ismodule(value):
                found.setdefault(id(value), (f"{module.__name__}.{name}", value))
    return dict(found.values())


def has_docstring_of_ours(value: Any) -> bool:
    return inspect.isclass(value) or inspect.isfunction(value)


def public_methods(name: str, cls: type) -> list[str]:
    """Return the methods and properties that the class itself defines."""
    return [
        f"{name}.{attribute}"
        for attribute, value in vars(cls).items()
        if not attribute.startswith("_")
        and (inspect.isroutine(value) or isinstance(value, property | classmethod | staticmethod))
    ]


PUBLIC = public_names()
DOCUMENTED = [name for name, value in PUBLIC.items() if has_docstring_of_ours(value)]
METHODS = [
    method
    for name, value in PUBLIC.items()
    if inspect.isclass(value)
    for method in public_methods(name, value)
]


def complaints(name: str, ignored: set[str]) -> list[str]:
    errors = validate(name)["errors"]
    return [f"{code}: {message}" for code, message in errors if code not in ignored]


@pytest.mark.parametrize("name", DOCUMENTED)
def test_docstring(name):
    # nobody constructs a protocol, so its signature is not worth a section
    short = {"PR01"} if getattr(PUBLIC[name], "_is_protocol", False) else set()
    assert complaints(name, IGNORED.keys() | short) == []


@pytest.mark.parametrize("name", METHODS)
def test_method_docstring(name):
    owner = name.split(".")[-2]
    short = set() if owner in FULLY_DOCUMENTED else IGNORED_IN_METHODS.keys()
    assert complaints(name, IGNORED.keys() | short) == []


def names_on_api_page() -> set[str]:
    """Return what the autosummary blocks of the page list, as dotted names."""
    module, inside, found = "", False, set()
    for line in API_PAGE.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"\.\. (?:currentmodule|module|automodule):: (\S+)", line):
            module = match[1]
        elif line.startswith(".. autosummary::"):
            inside = True
        elif line and not line.startswith(" "):
            inside = False
        elif inside and line.strip() and not line.strip().startswith(":"):
            found.add(f"{module}.{line.strip()}")
    return found


def test_every_public_name_is_on_the_api_page():
    assert sorted(PUBLIC.keys() - names_on_api_page()) == []


def test_every_name_on_the_api_page_is_public():
    assert sorted(names_on_api_page() - PUBLIC.keys()) == []
