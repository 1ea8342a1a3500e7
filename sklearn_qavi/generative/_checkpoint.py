"""A trained model as a folder: weights as tensors, everything else as readable JSON.

Nothing here unpickles. Each file is checked against a checksum and its description before it is
used.
"""

import copyreg
import json
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, SupportsIndex

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from .._files import (
    as_text,
    check_digest,
    digest_of,
    ensure_folder,
    read_json,
    write_json,
    write_whole,
)
from ..exceptions import ModelFormatError

__all__ = ["PlainState", "SavedModel", "load_strictly", "read_folder", "saved_kind", "write_folder"]

_CONFIG, _TENSORS = "config.json", "model.safetensors"


class PlainState(BaseEstimator):
    """A fitted estimator whose state is arrays and text for whoever cannot hold code, as skops.

    Pickle, copies and `joblib.hash` ask ``__reduce_ex__`` and get all attributes as they are.
    Others ask ``__getstate__``.
    """

    @abstractmethod
    def _plain_state(self) -> dict[str, Any]:
        """Return what `_restore_state` needs, if fitted."""

    @abstractmethod
    def _restore_state(self, state: dict[str, Any]) -> None:
        """Become what gave `_plain_state`."""

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return copyreg.__newobj__, (type(self),), super().__getstate__()  # type: ignore[attr-defined]

    def __getstate__(self) -> dict[str, Any]:
        if not any(name.endswith("_") and not name.startswith("_") for name in vars(self)):
            return dict(super().__getstate__())
        return {"plain_state": self._plain_state()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "plain_state" in state:
            self._restore_state(state["plain_state"])
        else:
            super().__setstate__(state)


class SavedModel(PlainState):
    """A model with decoders ``decoders_`` that can be saved and loaded.

    A subclass says what is kept besides the networks' weights, and takes it back.
    """

    decoders_: list[Any]

    @abstractmethod
    def _described(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return "parameters" and else what JSON can hold, and constants besides the weights."""

    @abstractmethod
    def _take(self, config: dict[str, Any], constants: dict[str, Tensor]) -> None:
        """Take back what `_described` returned, and make members without weights."""

    def save(self, folder: str | Path) -> None:
        """Write the trained model as safetensors weights and a readable JSON description.

        Parameters
        ----------
        folder : path-like
            Where to; made if need be. Options that are functions, an ``augmentation`` for one, are
            not kept.

        Raises
        ------
        ValueError
            If the folder cannot be written to.
        """
        check_is_fitted(self)
        write_folder(folder, type(self).__name__, *self._content())

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a model that `save` wrote; nothing is unpickled.

        Parameters
        ----------
        folder : path-like
            Where from.

        Returns
        -------
        model : object
            The trained model.

        Raises
        ------
        ModelFormatError
            If a file is missing, was changed in any byte, is of a newer version, or does not fit
            its description.
        """
        config, tensors = read_folder(folder, cls.__name__)
        model = cls.__new__(cls)
        model._restore(config, tensors, folder)
        return model

    def _content(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        config, tensors = self._described()
        weights = nn.ModuleList(self.decoders_).state_dict()
        return config, tensors | {f"decoders.{name}": value for name, value in weights.items()}

    def _restore(
        self, config: dict[str, Any], tensors: dict[str, Tensor], where: str | Path
    ) -> None:
        prefix = "decoders."
        weights = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        constants = {k: v for k, v in tensors.items() if not k.startswith(prefix)}
        try:
            self.__init__(**config["parameters"])  # type: ignore[misc]
            self._take(config, constants)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFormatError(f"{Path(where) / _CONFIG} lacks or misnames {error}.") from error
        members = nn.ModuleList(self.decoders_).eval().requires_grad_(False)
        load_strictly(members, weights, where)

    def _plain_state(self) -> dict[str, Any]:
        config, tensors = self._content()
        arrays = {name: value.detach().cpu().numpy() for name, value in tensors.items()}
        return {"config": as_text(config), "tensors": arrays}

    def _restore_state(self, state: dict[str, Any]) -> None:
        tensors = {name: torch.from_numpy(value) for name, value in state["tensors"].items()}
        self._restore(json.loads(state["config"]), tensors, "its state")


def write_folder(
    folder: str | Path, kind: str, config: dict[str, Any], tensors: dict[str, Tensor]
) -> None:
    """Write a model; the folder is made if need be and older files in it are replaced.

    Parameters
    ----------
    folder : path-like
        Where to.
    kind : str
        Name of the class, checked when loading.
    config : dict
        What JSON can hold.
    tensors : dict of str to Tensor
        Weights and constants.

    Raises
    ------
    ValueError
        If the folder cannot be written to.
    """
    folder = ensure_folder(folder, "folder")
    weights = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    write_whole(folder / _TENSORS, lambda part: save_file(weights, part))
    described = {k: [str(v.dtype), list(v.shape)] for k, v in tensors.items()}
    files = {_TENSORS: digest_of(folder / _TENSORS)}
    # last, so that a save that is cut short leaves a description of other weights
    write_json(
        folder / _CONFIG,
        {"kind": kind, "files": files, "tensors": described, "config": config},
    )


def read_folder(folder: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what `write_folder` wrote.

    Returns
    -------
    config : dict
        The description.
    tensors : dict of str to Tensor
        On the CPU.

    Raises
    ------
    ModelFormatError
        If a file is missing, was changed in any byte, is of a newer version or another kind, or if
        the tensors are not those that the description names.
    """
    folder = Path(folder)
    header = _read_header(folder)
    if header["kind"] != kind:
        raise ModelFormatError(f"{folder} holds a {header['kind']}, expected a {kind}.")
    check_digest(folder / _TENSORS, header["files"][_TENSORS])
    with _reading(folder / _TENSORS):
        tensors = load_file(folder / _TENSORS)
    found = {k: [str(v.dtype), list(v.shape)] for k, v in tensors.items()}
    described = header["tensors"]
    wrong = sorted(k for k in {*found, *described} if found.get(k) != described.get(k))
    if wrong:
        raise ModelFormatError(
            f"The tensors in {folder} are not those that its config.json describes, first "
            f"{wrong[:3]}."
        )
    return header["config"], tensors


def saved_kind(folder: str | Path) -> str:
    """Return the class of the model in a folder.

    Raises
    ------
    ModelFormatError
        If the description is missing or was changed.
    """
    return str(_read_header(Path(folder))["kind"])


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Turn what may go wrong into a ModelFormatError."""
    try:
        yield
    except (ValueError, OSError, SafetensorError) as error:
        raise ModelFormatError(f"{file} cannot be read ({error}); save it again.") from error


def _read_header(folder: Path) -> dict[str, Any]:
    header = read_json(folder / _CONFIG, "model")
    if not {"kind", "files", "tensors", "config"} <= set(header) or _TENSORS not in header["files"]:
        raise ModelFormatError(f"{folder / _CONFIG} does not describe a saved model.")
    return header


def load_strictly(module: nn.Module, tensors: dict[str, Tensor], folder: str | Path) -> None:
    """Put tensors into a module; a name or shape that does not fit is a ModelFormatError."""
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise ModelFormatError(f"The weights in {folder} do not fit its config: {error}") from error
