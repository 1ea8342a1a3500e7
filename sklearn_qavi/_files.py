"""Files that are written whole and carry checksums, and places that must take files later on."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ._checks import plain
from .exceptions import ModelFormatError

__all__ = [
    "as_text",
    "check_digest",
    "check_sealed",
    "digest_of",
    "ensure_file",
    "ensure_folder",
    "read_json",
    "write_json",
    "write_sealed",
    "write_whole",
    "writing_whole",
]

FORMAT_VERSION = 2  # of everything that is saved
_SEAL, _SEAL_BYTES = "sha256", 32
_CAUSE = "It was damaged, edited by hand, or cut short while it was written"
_SAVE_AGAIN = "save it again. Parameters are changed by set_params after loading."


def write_whole(file: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its place and move it there whole: a kill leaves the one before."""
    with writing_whole([file]) as (part,):
        write(part)


@contextmanager
def writing_whole(files: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield files to write in place of some, which are moved there when all are written."""
    parts = [file.with_name(f"{file.name}.part") for file in files]
    try:
        yield parts
        for part, file in zip(parts, files, strict=True):
            os.replace(part, file)
    except BaseException:
        for part in parts:
            part.unlink(missing_ok=True)
        raise


def write_json(file: Path, content: dict[str, object]) -> None:
    """Write readable JSON that holds its format version and its own checksum."""
    text = _sealed({"format_version": FORMAT_VERSION, **content})
    write_whole(file, lambda part: part.write_bytes(text))


def read_json(file: Path, what: str, remedy: str = _SAVE_AGAIN) -> dict[str, Any]:
    """Read what `write_json` wrote, if each byte is as it was.

    Parameters
    ----------
    file : pathlib.Path
        Where from.
    what : str
        What it describes, for messages.
    remedy : str, default="save it again. ..."
        What to do if it was changed.

    Raises
    ------
    ModelFormatError
        If the file is missing, was changed in any byte, or is of a newer version.
    """
    try:
        text = file.read_bytes()
        content: dict[str, Any] = json.loads(text)
        is_sealed = isinstance(content, dict) and content.pop(_SEAL, None) is not None
        is_intact = is_sealed and _sealed(content) == text
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelFormatError(
            f"{file.parent} is not a saved {what}: {file.name} is missing."
        ) from error
    except (ValueError, OSError, RecursionError) as error:
        raise ModelFormatError(f"{file} cannot be read ({error}). {_CAUSE}; {remedy}") from error
    if not is_sealed:
        raise ModelFormatError(
            f"{file} does not describe a saved {what}: it has no checksum. {_CAUSE}; {remedy}"
        )
    if not is_intact:
        raise ModelFormatError(
            f"{file} is not as it was saved: its checksum differs. {_CAUSE}; {remedy}"
        )
    if content["format_version"] > FORMAT_VERSION:
        raise ModelFormatError(
            f"{file} was saved in format {content['format_version']}, this version of "
            f"sklearn_qavi reads up to {FORMAT_VERSION}. Update sklearn_qavi."
        )
    return content


def _sealed(content: dict[str, object]) -> bytes:
    seal = hashlib.sha256(_rendered(content)).hexdigest()
    return _rendered({**content, _SEAL: seal})


def _rendered(content: dict[str, object]) -> bytes:
    return (as_text(content) + "\n").encode()


def as_text(content: object) -> str:
    """Return JSON; numbers of numpy, which searches set as parameters, are plain ones in it."""
    return json.dumps(content, indent=2, allow_nan=False, default=_plain_number)


def _plain_number(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a {type(value).__name__} cannot be saved without pickle")


def digest_of(file: Path) -> str:
    """Return the SHA-256 of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def check_digest(file: Path, expected: str) -> None:
    """Raise if a file is not there or not the one that has this SHA-256.

    Raises
    ------
    ModelFormatError
        The message names the file.
    """
    try:
        found = digest_of(file)
    except FileNotFoundError as error:
        raise ModelFormatError(f"{file} is missing: what is beside it cannot be read.") from error
    except OSError as error:
        raise ModelFormatError(f"{file} cannot be read ({error}).") from error
    if found != expected:
        raise ModelFormatError(
            f"{file} is not as it was saved: its checksum differs. {_CAUSE}; {_SAVE_AGAIN}"
        )


def write_sealed(file: Path, write: Callable[[Path], object]) -> None:
    """Write a file whole, with its SHA-256 behind what ``write`` puts into it."""

    def with_seal(part: Path) -> None:
        write(part)
        seal = bytes.fromhex(digest_of(part))
        with part.open("ab") as opened:
            opened.write(seal)

    write_whole(file, with_seal)


def check_sealed(file: Path) -> None:
    """Raise if a file is not as `write_sealed` left it.

    Raises
    ------
    ModelFormatError
        The message names the file.
    """
    digest, n_left = hashlib.sha256(), file.stat().st_size - _SEAL_BYTES
    with file.open("rb") as opened:
        while n_left > 0 and (part := opened.read(min(n_left, 2**20))):
            digest.update(part)
            n_left -= len(part)
        if opened.read() != digest.digest():
            raise ModelFormatError(
                f"{file} is not as it was written: its checksum differs; delete it."
            )


def ensure_folder(folder: str | Path, name: str) -> Path:
    """Return a folder that files can be written into; it is made if need be.

    Parameters
    ----------
    folder : path-like
        Where.
    name : str
        Parameter that gave it, for the message.

    Raises
    ------
    ValueError
        If it cannot be used; the message says why.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        why = "it is a file" if folder.is_file() else error.strerror
        raise ValueError(
            f"{name}={plain(str(folder))} cannot be used ({why}). Choose a folder that files can "
            "be written into; it is made if it is not there."
        ) from error
    return folder


def ensure_file(file: str | Path, name: str) -> Path:
    """Return a file that can be written, in a folder that exists.

    Parameters
    ----------
    file : path-like
        Where.
    name : str
        Parameter that gave it, for the message.

    Raises
    ------
    ValueError
        If it cannot be written; the message says why.
    """
    file = Path(file)
    why = "it is a folder" if file.is_dir() else None
    try:
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        why = f"{file.parent}: {error.strerror}"
    if why is not None:
        raise ValueError(
            f"{name}={plain(str(file))} cannot be written ({why}). Choose a file in a folder that "
            "exists and that files can be written into."
        )
    return file
