"""A format fits a date if it writes it again to the letter."""

import datetime

import pytest

from sklearn_qavi._cli._dates import FORMATS, DateFormat


@pytest.mark.parametrize("date_format", FORMATS, ids=str)
def test_what_a_format_writes_it_reads(date_format: DateFormat) -> None:
    time = datetime.datetime(2024, 3, 7, 4, 5, 6)
    text = date_format.write(time)
    found = date_format.read(text)
    assert found is not None
    assert found.date() == time.date()
    assert date_format.write(found) == text


def test_leading_zeros_tell_formats_apart() -> None:
    padded, bare = DateFormat("%d.%m.%Y"), DateFormat("%d.%m.%Y", padded=False)
    assert padded.read("03.01.2024") == bare.read("3.1.2024") == datetime.datetime(2024, 1, 3)
    assert padded.read("3.1.2024") is bare.read("03.01.2024") is None
    assert DateFormat("%Y-%m-%d").read("2024-02-30") is None
