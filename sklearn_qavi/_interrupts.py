"""What an interrupt or an error leaves: an estimator as it was, and no thread that goes on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from threading import Event
from typing import Any, TypeVar

__all__ = ["AbandonedError", "all_or_nothing", "go_on", "until"]

_Fit = TypeVar("_Fit", bound=Callable[..., Any])
_stop: ContextVar[Event | None] = ContextVar("stop", default=None)


class AbandonedError(Exception):
    """Nobody waits for this work any more."""


def all_or_nothing(fit: _Fit) -> _Fit:
    """Return a ``fit`` that puts the estimator back as it was if it does not get to its end.

    What a user sees after an interrupt is then the old fitted state, whole, or none. ``fit`` must
    assign attributes, not change the old ones' values in place.
    """

    @wraps(fit)
    def whole(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = dict(vars(self))
        try:
            return fit(self, *args, **kwargs)
        except BaseException:
            self.__dict__ = before
            raise

    return whole  # type: ignore[return-value]


@contextmanager
def until(stop: Event | None) -> Iterator[None]:
    """Let `go_on` raise in this thread once the event is set; None for an event that never is.

    An interrupt reaches the main thread alone; this is how it ends the work of others.
    """
    token = _stop.set(stop)
    try:
        yield
    finally:
        _stop.reset(token)


def go_on() -> None:
    """Raise `AbandonedError` if nobody waits for this thread's work; long loops ask each turn."""
    stop = _stop.get()
    if stop is not None and stop.is_set():
        raise AbandonedError
