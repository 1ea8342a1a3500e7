"""Progress bars that end full, made when they are needed.

tqdm looks for a notebook when `tqdm.auto` is imported, and warns where one has no widgets; it then
writes text, which is all that is wanted.
"""

import math
import warnings
from threading import Lock
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["RowBar", "StepBar", "TrainingBar"]


def _make_bar(*, silent: bool, **options: object) -> "tqdm":
    """Return a tqdm bar that fits where the output goes."""
    from tqdm import TqdmWarning, tqdm

    if silent:
        return tqdm(disable=True, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)
        from tqdm.auto import tqdm as suited
    return suited(**options)


class _Bar:
    """A bar that is closed at the end of a ``with``."""

    bar: "tqdm"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    def _set_total(self, total: int) -> None:
        self.bar.total = total
        if hasattr(self.bar, "container"):  # the widget of a notebook has a total of its own
            self.bar.container.children[1].max = total


class RowBar(_Bar):
    """Counts rows, each of which is done once all its parts are.

    Parameters
    ----------
    total : int
        Rows.
    desc, unit : str
        What is done and to what.
    silent : bool
        Whether nothing is shown.
    n_parts : int, default=1
        Parts of a row, e.g. its posteriors under so many decoders.
    initial : int, default=0
        Rows that were done before.
    """

    def __init__(
        self,
        total: int,
        *,
        desc: str,
        unit: str,
        silent: bool,
        n_parts: int = 1,
        initial: int = 0,
    ) -> None:
        self.bar = _make_bar(silent=silent, total=total, desc=desc, unit=unit, initial=initial)
        self.n_parts, self.n_done = n_parts, initial * n_parts
        self.lock = Lock()

    def update(self, n: int = 1) -> None:
        """Count parts of rows, from any thread; a row that is done again counts once."""
        with self.lock:
            self.n_done += n
            self.bar.update(min(self.n_done // self.n_parts, self.bar.total) - self.bar.n)


class TrainingBar(_Bar):
    """Counts epochs of several trainings, any of which may settle before its last one.

    The total is what is expected: a training takes as many epochs as those before it took on
    average, and at most ``max_epochs`` as long as none has settled.

    Parameters
    ----------
    n_trainings : int
        Trainings, one per decoder.
    max_epochs : int
        Most epochs of one of them.
    silent : bool
        Whether nothing is shown.
    """

    def __init__(self, n_trainings: int, max_epochs: int, *, silent: bool) -> None:
        self.n_trainings, self.max_epochs = n_trainings, max_epochs
        self.n_settled = self.n_before = 0  # trainings that are over, and their epochs
        self.bar = _make_bar(
            silent=silent, total=n_trainings * max_epochs, desc=self._title, unit="epoch"
        )

    def epoch(self) -> None:
        """Count an epoch."""
        self._expect(self.bar.n + 1)
        self.bar.update()

    def settle(self) -> None:
        """Count a training that is over."""
        self.n_settled, self.n_before = self.n_settled + 1, self.bar.n
        self.bar.set_description(self._title, refresh=False)
        self._expect(self.bar.n)
        self.bar.refresh()

    def plan(self, n_trainings: int) -> None:
        """Change how many trainings there are, those that are over included."""
        self.n_trainings = n_trainings
        self._expect(self.bar.n)
        self.bar.refresh()

    @property
    def _title(self) -> str:
        decoder = min(self.n_settled + 1, self.n_trainings)
        return f"training decoder {decoder} of {self.n_trainings}"

    def _expect(self, n: int) -> None:
        """Set the total to what is expected after n epochs."""
        usual = self.max_epochs
        if self.n_settled:
            usual = math.ceil(self.n_before / self.n_settled)
        total, n_left = n, self.n_trainings - self.n_settled
        if n_left:
            total = max(n, self.n_before + usual) + usual * (n_left - 1)
        self._set_total(total)


class StepBar(_Bar):
    """Counts optimisation steps of networks that are trained side by side, part after part.

    Parameters
    ----------
    silent : bool
        Whether nothing is shown.
    """

    def __init__(self, *, silent: bool) -> None:
        self.n_before = 0  # steps of the parts that are over
        self.bar = _make_bar(silent=silent, total=0, desc="training", unit="step")

    def reach(self, n_steps: int, end: int) -> None:
        """Show the steps of this part, and at which it is expected to end."""
        self._set_total(self.n_before + max(end, n_steps))
        self.bar.update(self.n_before + n_steps - self.bar.n)

    def settle(self) -> None:
        """Begin another part, or end full."""
        self.n_before = self.bar.n
        self._set_total(self.bar.n)
        self.bar.refresh()
