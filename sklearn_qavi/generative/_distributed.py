"""Processes that train one network together, each on its share of every batch."""

import os
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

if TYPE_CHECKING:
    from accelerate import Accelerator
    from skorch import NeuralNet

__all__ = ["Processes", "training_processes"]


T = TypeVar("T")


class Processes:
    """The processes that train together; here one alone.

    Attributes
    ----------
    rank : int
        Which of them this is.
    world_size : int
        How many there are.
    """

    rank = 0
    world_size = 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.rank == 0

    def shared(self, value: T) -> T:
        """Return the first process's value."""
        return value

    def gathered(self, value: T) -> list[T]:
        """Return the values of all processes, in their order."""
        return [value]

    def mean(self, value: float) -> float:
        """Return the mean over processes, the same number in each of them."""
        return value

    def bare(self, network: nn.Module) -> Any:
        """Return a network without what may have been wrapped around it for training."""
        return network

    def net_class(
        self, net_class: type["NeuralNet"]
    ) -> tuple[type["NeuralNet"], dict[str, object]]:
        """Return the skorch net that trains like this one together, and its further arguments."""
        return net_class, {}


class _Accelerated(Processes):
    """Those that ``torchrun`` or ``accelerate launch`` started."""

    def __init__(self, accelerator: "Accelerator") -> None:
        self.accelerator = accelerator
        self.rank, self.world_size = accelerator.process_index, accelerator.num_processes

    def shared(self, value: T) -> T:
        from accelerate.utils import broadcast_object_list

        sent: T = broadcast_object_list([value])[0]
        return sent

    def gathered(self, value: T) -> list[T]:
        from accelerate.utils import gather_object

        return list(gather_object([value]))

    def mean(self, value: float) -> float:
        number = torch.tensor(value, dtype=torch.float64, device=self.accelerator.device)
        return float(self.accelerator.reduce(number, reduction="mean"))

    def bare(self, network: nn.Module) -> Any:
        return self.accelerator.unwrap_model(network)

    def net_class(
        self, net_class: type["NeuralNet"]
    ) -> tuple[type["NeuralNet"], dict[str, object]]:
        from skorch.hf import AccelerateMixin

        # the net's own batches are shared already
        own = {"get_iterator": net_class.get_iterator}
        together = type(f"Distributed{net_class.__name__}", (AccelerateMixin, net_class), own)
        return together, {"accelerator": self.accelerator, "device": None}


def training_processes(device: str) -> Processes:
    """Return the processes that train together if ``device="distributed"``, else this one.

    Raises
    ------
    ImportError
        If accelerate is not installed.
    """
    if device != "distributed":
        return Processes()
    try:
        from accelerate import Accelerator, DistributedDataParallelKwargs
    except ImportError as error:
        raise ImportError(
            "device='distributed' needs accelerate: pip install 'sklearn-qavi[gpus]'."
        ) from error
    # of a network only what an image needs takes part in a step
    wrapper = DistributedDataParallelKwargs(find_unused_parameters=True)
    on_cpu = not torch.cuda.is_available() or "ACCELERATE_USE_CPU" in os.environ
    return _Accelerated(Accelerator(cpu=on_cpu, kwargs_handlers=[wrapper]))
