"""What an inference method is told besides the rows."""

from dataclasses import dataclass

from .._typing import Progress

__all__ = ["Context"]


@dataclass(frozen=True, kw_only=True)
class Context:
    """What one call of `InferenceMethod.infer` is told besides decoder and rows.

    Parameters
    ----------
    seed : int, default=0
        Seed of the noise, which all rows share so that a row does not depend on the others.
    batch_size : int or None, default=None
        Rows in work at one time; the result does not depend on it. None leaves it to the device.
    beta : float, default=1.0
        Weight of the divergence from the prior, for methods that read it.
    max_iter : int or None, default=None
        Maximum number of optimisation steps per row; None leaves it to the method.
    tol : float or None, default=None
        When a row has converged, in nats; None leaves it to the method.
    start : {"prior", "encoder", "best"}, default="prior"
        Where rows start if the method leaves it open, see `Gaussian`.
    trace : bool, default=False
        Keep the bound after each step, see `InferenceResult`.
    progress : callable or None, default=None
        Called with the number of rows just finished.
    deadline : float or None, default=None
        Reading of `time.monotonic` by which to be done, as far as the method can stop early.
    """

    seed: int = 0
    batch_size: int | None = None
    beta: float = 1.0
    max_iter: int | None = None
    tol: float | None = None
    start: str = "prior"
    trace: bool = False
    progress: Progress | None = None
    deadline: float | None = None
