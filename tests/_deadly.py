"""What kills a worker of a cluster, for `test_chunks`.

Workers import it by this name. They would look for ``tests.test_chunks`` in whatever package a
library has installed as ``tests``, and a cluster all of whose workers have died waits for ever.
"""

import os
import signal
import time
from typing import Any

import numpy as np


def die_once(flag: str) -> None:
    """Kill the process that comes here first; that one came is noted in a file."""
    try:
        os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


class Deadly:
    """A summary that kills one worker in the middle of the call."""

    def __init__(self, flag: str, summary: Any) -> None:
        self.flag, self.summary = flag, summary

    def __call__(self, pooled: Any, chunk: Any) -> np.ndarray:
        time.sleep(0.2)
        die_once(self.flag)
        return self.summary(pooled, chunk)
