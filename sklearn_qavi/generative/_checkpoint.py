"""A trained model as a folder: weights as tensors, everything else as readable JSON.

Nothing here unpickles. A file is checked against its own description before it is used.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..exceptions import ModelFormatError

__all__ = ["load_strictly", "read_folder", "saved_kind", "write_folder"]

FORMAT_VERSION = 1
_CONFIG, _TENSORS = "config.json", "model.safetensors"


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
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, folder / _TENSORS)
    described = {k: [str(v.dtype), list(v.shape)] for k, v in tensors.items()}
    header = {"format_version": FORMAT_VERSION, "kind": kind, "tensors": described}
    text = json.dumps({**header, "config": config}, indent=2, allow_nan=False)
    (folder / _CONFIG).write_text(text + "\n", encoding="utf-8")


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
        If a file is missing, truncated, of a newer version or another kind, or if the tensors are
        not those that the description names.
    """
    folder = Path(folder)
    with _reading(folder):
        header = _read_header(folder)
        tensors = load_file(folder / _TENSORS)
    _check_header(header, kind, tensors, folder)
    return header["config"], tensors


def saved_kind(folder: str | Path) -> str:
    """Return the class of the model in a folder.

    Raises
    ------
    ModelFormatError
        If the description is missing or cannot be read.
    """
    folder = Path(folder)
    with _reading(folder):
        return str(_read_header(folder)["kind"])


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Turn what may go wrong into a ModelFormatError."""
    try:
        yield
    except ModelFormatError:
        raise
    except FileNotFoundError as error:
        raise ModelFormatError(
            f"{folder} is not a saved model: {Path(error.filename or '').name or error} is missing."
        ) from error
    except (ValueError, OSError, SafetensorError) as error:
        raise ModelFormatError(
            f"The saved model in {folder} cannot be read ({error}). It is truncated or was "
            "changed; save it again."
        ) from error


def _read_header(folder: Path) -> dict[str, Any]:
    header = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    parts = {"format_version", "kind", "tensors", "config"}
    if not isinstance(header, dict) or not parts <= set(header):
        raise ModelFormatError(f"{folder / _CONFIG} does not describe a saved model.")
    return header


def _check_header(
    header: dict[str, Any], kind: str, tensors: dict[str, Tensor], folder: Path
) -> None:
    if header["format_version"] > FORMAT_VERSION:
        raise ModelFormatError(
            f"{folder} was saved in format {header['format_version']}, this version of "
            f"sklearn_qavi reads up to {FORMAT_VERSION}. Update sklearn_qavi."
        )
    if header["kind"] != kind:
        raise ModelFormatError(f"{folder} holds a {header['kind']}, expected a {kind}.")
    found = {k: [str(v.dtype), list(v.shape)] for k, v in tensors.items()}
    if found != header["tensors"]:
        wrong = sorted(
            k for k in {*found, *header["tensors"]} if found.get(k) != header["tensors"].get(k)
        )
        raise ModelFormatError(
            f"The tensors in {folder} are not those that its config.json describes, "
            f"first {wrong[:3]}."
        )


def load_strictly(module: torch.nn.Module, tensors: dict[str, Tensor], folder: str | Path) -> None:
    """Put tensors into a module; a name or shape that does not fit is a ModelFormatError."""
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise ModelFormatError(f"The weights in {folder} do not fit its config: {error}") from error
