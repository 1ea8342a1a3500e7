"""Processes that train together, for `test_resume`: ``python _together.py RUNS``.

``RUNS`` is JSON, a list of runs that follow each other: ``[name, number of processes, rounds,
checkpoint folder or ""]``. Each process saves its model to the folder ``name_rank``. On Linux what
they import, which takes longer than they train, is imported once, before they are forked.
"""

import json
import multiprocessing
import os
import socket
import sys
import warnings

import accelerate  # noqa: F401
import skorch.hf  # noqa: F401
import torch._dynamo  # noqa: F401

from _factories import digits, tiny_layers


def train(name: str, rank: int, world_size: int, port: int, n_rounds: int, folder: str) -> None:
    """Train as the process of this rank, and save."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), ACCELERATE_USE_CPU="true")
    os.environ.update(WORLD_SIZE=str(world_size), RANK=str(rank), LOCAL_RANK=str(rank))
    warnings.simplefilter("ignore")
    vae = tiny_layers(
        rounds=n_rounds, steps=6, device="distributed", checkpoint_folder=folder or None
    )
    vae.fit(digits(0, 120)).save(f"{name}_{rank}")


def run(name: str, world_size: int, n_rounds: int, folder: str) -> None:
    """Let so many processes train together; an error of one ends this program."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    processes = [
        context.Process(target=train, args=(name, rank, world_size, port, n_rounds, folder))
        for rank in range(world_size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        sys.exit(f"{name}: {[process.exitcode for process in processes]}")


if __name__ == "__main__":
    for arguments in json.loads(sys.argv[1]):
        run(*arguments)
