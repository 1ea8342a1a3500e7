"""Code that saved models name: what is imported, and what is refused."""

import sys
import types

import pytest
import torch

from sklearn_qavi.exceptions import ModelFormatError
from sklearn_qavi.generative._reference import check_reference, made_by


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = types.ModuleType("elsewhere")
    module.layer = torch.nn.Identity()
    module.Nested = types.SimpleNamespace(make=lambda: torch.nn.Linear(2, 3))
    module.pair = lambda: (torch.nn.Identity(), torch.nn.Flatten())
    module.number = lambda: 3
    module.needs = lambda size: torch.nn.Linear(size, size)
    monkeypatch.setitem(sys.modules, "elsewhere", module)
    return module


def made(source: str) -> object:
    return made_by(source, [source])


def test_modules_and_what_makes_them(elsewhere: types.ModuleType) -> None:
    state = torch.random.get_rng_state()
    assert made("elsewhere:Nested.make").out_features == 3
    assert torch.random.get_rng_state().equal(state)
    copied = made("elsewhere:layer")
    assert isinstance(copied, torch.nn.Identity)
    assert copied is not elsewhere.layer
    assert isinstance(made("elsewhere:pair")[1], torch.nn.Flatten)
    assert isinstance(made_by("elsewhere:layer", "elsewhere:layer"), torch.nn.Identity)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.at.all:make", r"cannot be imported here .*nowhere"),
        ("elsewhere:absent", "cannot be imported here"),
        ("elsewhere:number", "makes a int, expected a torch.nn.Module"),
        ("elsewhere:needs", "cannot be called without arguments"),
    ],
)
def test_what_does_not_make_a_module(
    elsewhere: types.ModuleType, source: str, message: str
) -> None:
    with pytest.raises(ModelFormatError, match=message):
        made(source)


def test_nothing_is_imported_unless_it_is_trusted() -> None:
    with pytest.raises(ModelFormatError, match="names code to be run"):
        made_by("nowhere.at.all:make", ["elsewhere:make"])


@pytest.mark.parametrize("source", ["make", "package:", ":make", "a b:c", "a:b:c", 3])
def test_the_form_is_checked(source: object) -> None:
    with pytest.raises(ValueError, match="source must be 'package"):
        check_reference(source)


def test_the_started_program_cannot_be_imported() -> None:
    with pytest.raises(ValueError, match="which others cannot"):
        check_reference("__main__:make")
