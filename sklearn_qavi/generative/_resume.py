"""Training that goes on where it was stopped: what it leaves in a folder after each epoch."""

import copy
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import torch
from skorch.callbacks import Callback
from skorch.history import History

from ..exceptions import ModelFormatError
from ._distributed import Processes

__all__ = ["Checkpoint", "TrainingFolder"]

_DESCRIPTION = "training.json"


class TrainingFolder:
    """A folder that belongs to one training: the same images, settings and seed.

    Parameters
    ----------
    folder : path-like
        Made if need be.
    question : object
        What the training depends on, for `joblib.hash`.
    seed : int
        Seed of the training, if the folder is new.
    is_given : bool
        Whether the user chose the seed; otherwise that of the folder is taken.
    processes : Processes
        Those that train together.

    Attributes
    ----------
    seed : int
        Seed to train with.

    Raises
    ------
    ValueError
        If the folder holds another training.
    ModelFormatError
        If its description cannot be read.
    """

    def __init__(
        self,
        folder: str | Path,
        question: Any,
        seed: int,
        *,
        is_given: bool,
        processes: Processes,
    ) -> None:
        self.folder = Path(folder)
        if processes.is_first:
            self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / _DESCRIPTION
        described = {"question": joblib.hash(question), "seed": seed if is_given else None}
        found = _read(file) if processes.is_first and file.exists() else None
        found = processes.shared(found)
        if found is None:
            found = {**described, "used_seed": seed}
            if processes.is_first:
                text = json.dumps(found, indent=2) + "\n"
                _replace(file, lambda part: part.write_text(text, encoding="utf-8"))
        if any(found.get(name) != value for name, value in described.items()):
            raise ValueError(
                f"checkpoint_folder={str(folder)!r} holds a training on other images, with other "
                "parameters or another random_state. Choose another folder, or delete this one to "
                "start afresh."
            )
        self.seed = int(found["used_seed"])

    def file(self, number: int) -> Path:
        """Return where the training of a decoder is written."""
        return self.folder / f"decoder_{number}.pt"


class Checkpoint(Callback):
    """Write the state of training after each epoch, and start from the one that is there.

    What follows is what an undisturbed training would have done, to the bit, on the same machine
    and with as many processes and threads.

    Parameters
    ----------
    file : path-like
        Where to. It is replaced as a whole: a kill leaves the last state or the one before.
    average : AverageWeights
        Whose average belongs to the state.
    best : KeepBest
        Whose best epoch belongs to the state; it must come before this callback.
    """

    def __init__(self, file: str | Path, average: Any, best: Any) -> None:
        self.file, self.average, self.best = Path(file), average, best

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.max_epochs_ = net.max_epochs
        if not self.file.exists():
            return
        state = _load(self.file)
        try:
            self._restore(net, state)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ModelFormatError(
                f"{self.file} is not the state of this training ({error}); delete it."
            ) from error
        n_done = len(net.history)
        # skorch takes so many epochs from here
        net.max_epochs = 0 if self.best.settled_ else max(self.max_epochs_ - n_done, 0)
        if self.best.on_epoch is not None:
            for _ in range(n_done):
                self.best.on_epoch()

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        self._keep(net)

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        net.max_epochs = self.max_epochs_
        if self.best.settled_:  # the last epoch ended before it came to us
            self._keep(net)

    def _keep(self, net: Any) -> None:
        best, random_states = self.best, net.random_states()
        if not net.processes.is_first:
            return
        epochs = [{k: v for k, v in epoch.items() if k != "batches"} for epoch in net.history]
        state = {
            "network": net.network_.state_dict(),
            "optimizer": net.optimizer_.state_dict(),
            "random_states": random_states,
            "average": self.average.network_.state_dict(),
            "n_steps": self.average.n_steps_,
            "best": best.network_.state_dict(),
            "best_score": best.best_score_,
            "best_epoch": best.best_epoch_,
            "settled": best.settled_,
            "history": json.dumps(epochs),
        }
        _replace(self.file, lambda part: torch.save(state, part))

    def _restore(self, net: Any, state: dict[str, Any]) -> None:
        net.network_.load_state_dict(state["network"])
        net.optimizer_.load_state_dict(state["optimizer"])
        net.set_random_states(state["random_states"])
        self.average.network_.load_state_dict(state["average"])
        self.average.n_steps_ = state["n_steps"]
        best = self.best
        best.network_ = copy.deepcopy(self.average.network_)
        best.network_.load_state_dict(state["best"])
        best.best_score_, best.best_epoch_ = state["best_score"], state["best_epoch"]
        best.settled_ = state["settled"]
        epochs = json.loads(state["history"])
        net.history_ = History({**epoch, "batches": []} for epoch in epochs)


def _load(file: Path) -> dict[str, Any]:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError) as error:
        raise ModelFormatError(f"{file} cannot be read ({error}); delete it.") from error
    if not isinstance(state, dict):
        raise ModelFormatError(f"{file} is not the state of a training; delete it.")
    return state


def _read(file: Path) -> Any:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        int(found["used_seed"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFormatError(f"{file} does not describe a training; delete it.") from error
    return found


def _replace(file: Path, write: Callable[[Path], Any]) -> None:
    """Write a file beside its place and move it there whole."""
    part = file.with_suffix(".part")
    write(part)
    os.replace(part, file)
