"""What an interrupt or an error leaves: an estimator as it was, and no thread that goes on."""

import atexit
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from threading import Condition, current_thread, main_thread
from types import FrameType
from typing import TypeVar

__all__ = ["AbandonedError", "Crew", "all_or_nothing", "go_on", "heeding_interrupts"]

_Fit = TypeVar("_Fit", bound=Callable[..., object])


class AbandonedError(Exception):
    """Nobody waits for this work any more."""


def all_or_nothing(fit: _Fit) -> _Fit:
    """Return a ``fit`` that puts the estimator back as it was if it does not get to its end.

    What a user sees after an interrupt is then the old fitted state, whole, or none. ``fit`` must
    assign attributes, not change the old ones' values in place.
    """

    @wraps(fit)
    def whole(self: object, *args: object, **kwargs: object) -> object:
        before = dict(vars(self))
        try:
            return fit(self, *args, **kwargs)
        except BaseException:
            self.__dict__ = before
            raise

    return whole  # type: ignore[return-value]


@contextmanager
def heeding_interrupts() -> Iterator[Callable[[], None]]:
    """Yield a function that raises an interrupt which was raised before and not heard.

    Python raises `KeyboardInterrupt` wherever the main thread is, and drops it in some places, in
    destructors and while it forks. A handler of the caller's own is left alone.
    """
    ours = current_thread() is main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: None
        return
    heard: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        signal.default_int_handler(number, frame)

    def ask() -> None:
        if heard:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, handle)
    try:
        yield ask
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class Crew:
    """Threads that work for one caller, and stop when it stops waiting for them.

    An interrupt reaches the main thread alone; this is how it ends the work of others.
    """

    def __init__(self) -> None:
        self.is_dismissed = False
        self._n_at_work = 0
        self._changed = Condition()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Let `go_on` ask, in this thread, whether the crew is dismissed."""
        token = _crew.set(self)
        self._count(1)
        try:
            go_on()
            yield
        finally:
            self._count(-1)
            _crew.reset(token)

    def dismiss(self, seconds: float = 0.5) -> None:
        """Let `go_on` raise in all threads, and wait so long for them to leave.

        Python cannot end while a thread is inside of torch: who takes longer is waited for there.
        """
        self.is_dismissed = True
        if not self._wait(seconds):
            atexit.register(self._wait)

    def _count(self, change: int) -> None:
        with self._changed:
            self._n_at_work += change
            self._changed.notify_all()

    def _wait(self, seconds: float | None = None) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._n_at_work == 0, seconds)


_crew: ContextVar[Crew | None] = ContextVar("crew", default=None)


def go_on() -> None:
    """Raise `AbandonedError` if nobody waits for this thread's work; long loops ask each turn."""
    crew = _crew.get()
    if crew is not None and crew.is_dismissed:
        raise AbandonedError
