"""Short labels: never longer than asked for, and different where the labels were."""

import matplotlib.pyplot as plt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sklearn_qavi.plotting._labels import as_entry, shorten

# few letters, so that many names share their starts and ends
WORDS = st.text("ab_ …(2)$\\", max_size=40) | st.text(max_size=40)


@given(st.lists(WORDS, unique=True, max_size=30), st.integers(12, 40))
def test_different_labels_stay_different(labels: list[str], longest: int) -> None:
    short = shorten(labels, longest)
    assert len(set(short)) == len(labels)
    assert max((len(label.replace(r"\$", "$")) for label in short), default=0) <= longest


@given(st.text("ab", min_size=5, max_size=40), st.text("ab", min_size=5, max_size=40))
def test_names_alike_at_both_ends_stay_different(start: str, end: str) -> None:
    names = [f"{start}{k}{end}" for k in range(30)]
    assert len(set(shorten(names))) == 30


@given(st.lists(st.text("abc", max_size=18), max_size=10))
def test_short_labels_stay_as_they_are(labels: list[str]) -> None:
    assert shorten(labels) == labels


def test_what_tells_names_apart_is_kept() -> None:
    names = [f"measurement_of_the_first_sensor_{k:02d}_in_the_long_corridor" for k in range(20)]
    for k, label in enumerate(shorten(names)):
        assert f"{k:02d}" in label
        assert label.startswith("mea")
        assert label.endswith("dor")


def test_a_single_long_name_loses_its_middle() -> None:
    (label,) = shorten(["measurement_of_the_first_sensor_temperature"], 20)
    assert label == "measuremen…mperature"


def test_names_that_no_cut_tells_apart_are_numbered() -> None:
    labels = shorten(["a b", "a  b", "a\nb"])
    assert labels == ["a b", "a b (2)", "a b (3)"]


@pytest.mark.parametrize("name", ["$x$ and $\\bad{", "costs $5 or $6", "_hidden", "two\nlines"])
def test_odd_names_are_drawn_as_they_are(name: str) -> None:
    """A formula that matplotlib cannot read would raise an error when it is drawn."""
    figure, ax = plt.subplots()
    ax.set_title(shorten([name])[0])
    ax.plot([0, 1], label=as_entry(shorten([name])[0]))
    ax.legend()
    figure.canvas.draw()
    assert len(ax.get_legend().get_texts()) == 1
