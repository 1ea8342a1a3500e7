"""Training that goes on where it was stopped: what it leaves in a folder after each epoch."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import torch
from skorch.callbacks import Callback
from skorch.history import History

from .._checks import plain
from .._files import check_sealed, ensure_folder, read_json, write_json, write_sealed
from ..exceptions import ModelFormatError
from ._distributed import Processes

if TYPE_CHECKING:
    from skorch import NeuralNet


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
        If the folder cannot be written to, or holds another training.
    ModelFormatError
        If its description was changed in any byte.
    """

    def __init__(
        self,
        folder: str | Path,
        question: object,
        seed: int,
        *,
        is_given: bool,
        processes: Processes,
    ) -> None:
        self.folder = Path(folder)
        if processes.is_first:
            ensure_folder(folder, "checkpoint_folder")
        file = self.folder / _DESCRIPTION
        described = {"question": joblib.hash(question), "seed": seed if is_given else None}
        is_known = processes.is_first and file.exists()
        found = processes.shared(read_json(file, "training", "delete it.") if is_known else None)
        if found is None:
            found = {**described, "used_seed": seed}
            if processes.is_first:
                write_json(file, found)
        if any(found.get(name) != value for name, value in described.items()):
            raise ValueError(
                f"checkpoint_folder={plain(str(folder))} holds a training on other images, with "
                "other parameters or another random_state. Choose another folder, or delete this "
                "one to start afresh."
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

    def __init__(self, file: str | Path, average: Callback, best: Callback) -> None:
        self.file, self.average, self.best = Path(file), average, best

    def on_train_begin(self, net: NeuralNet, **kwargs: object) -> None:
        if not self.file.exists():
            return
        state = _load(self.file)
        try:
            self._restore(net, state)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ModelFormatError(
                f"{self.file} is not the state of this training ({error}); delete it."
            ) from error
        if self.best.on_epoch is not None:
            for _ in net.history:
                self.best.on_epoch()

    def on_epoch_end(self, net: NeuralNet, **kwargs: object) -> None:
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
        write_sealed(self.file, lambda part: torch.save(state, part))

    def _restore(self, net: NeuralNet, state: dict[str, Any]) -> None:
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
        check_sealed(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError) as error:
        raise ModelFormatError(f"{file} cannot be read ({error}); delete it.") from error
    if not isinstance(state, dict):
        raise ModelFormatError(f"{file} is not the state of a training; delete it.")
    return state
