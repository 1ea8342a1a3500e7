"""Code that a saved model names instead of holding: ``"package.module:attribute"``."""

import copy
import importlib
from collections.abc import Sequence

import torch
from torch import nn

from .._checks import plain
from ..exceptions import ModelFormatError

__all__ = ["check_reference", "made_by"]

Made = nn.Module | tuple[nn.Module, nn.Module]


def check_reference(source: str) -> None:
    """Raise if a text cannot name code that another program can import.

    Parameters
    ----------
    source : str
        Such as "package.module:attribute".

    Raises
    ------
    ValueError
        If it is of another form, or is of the program that was started.
    """
    module, colon, attribute = source.partition(":") if isinstance(source, str) else ("", "", "")
    names = [*module.split("."), *attribute.split(".")]
    if not colon or not all(name.isidentifier() for name in names):
        raise ValueError(f"source must be 'package.module:attribute', got {plain(source)}.")
    if module == "__main__":
        raise ValueError(
            f"source={plain(source)} is of the program that was started, which others cannot "
            "import. Put the decoder into a module of its own."
        )


def made_by(source: str, trusted: Sequence[str]) -> Made:
    """Return the decoder, or the pair of decoder and encoder, that a reference makes.

    Parameters
    ----------
    source : str
        Such as "package.module:attribute".
    trusted : sequence of str
        References that may be imported and called.

    Returns
    -------
    made : torch.nn.Module or tuple of two
        What the attribute returns without arguments, or a copy of it if it is a module itself.

    Raises
    ------
    ModelFormatError
        If it is not trusted, cannot be imported, or makes something else.
    """
    if isinstance(trusted, str):
        trusted = [trusted]
    if source not in trusted:
        raise ModelFormatError(
            f"The model names code to be run, {plain(source)}. If you know and trust it, pass "
            f"trusted=[{plain(source)}]."
        )
    module, _, attribute = source.partition(":")
    try:
        found = importlib.import_module(module)
        for name in attribute.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError) as error:
        raise ModelFormatError(
            f"The code of the decoder, {plain(source)}, cannot be imported here ({error}). Install "
            "the package it is in, or run where the module can be imported."
        ) from error
    made = copy.deepcopy(found) if isinstance(found, nn.Module) else _called(found, source)
    parts = made if isinstance(made, tuple) else (made,)
    if len(parts) > 2 or not all(isinstance(part, nn.Module) for part in parts):
        raise ModelFormatError(
            f"{plain(source)} makes a {type(made).__name__}, expected a torch.nn.Module, or the "
            "pair (decoder, encoder)."
        )
    return made


def _called(found: object, source: str) -> Made:
    try:
        with torch.random.fork_rng():  # its first weights are not kept
            made: Made = found()  # type: ignore[operator]
    except TypeError as error:
        raise ModelFormatError(
            f"{plain(source)} cannot be called without arguments ({error})."
        ) from error
    return made
