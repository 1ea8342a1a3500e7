"""Labels that are short enough for axes, and still differ from each other."""

from collections.abc import Hashable, Iterable
from itertools import chain, count

__all__ = ["LONGEST", "SHORTEST", "as_entry", "shorten"]

LONGEST, SHORTEST = 18, 12  # characters that labels are cut to
_EDGE = 3  # characters that stay at both ends of names that differ in the middle alone


def shorten(labels: Iterable[Hashable], longest: int = LONGEST) -> list[str]:
    """Return labels of no more characters than this, each different where it was before.

    Long ones lose their middle. Those that would then be alike keep what tells them apart instead,
    and get a number where that is not enough. Line breaks become spaces, and dollar signs are
    escaped, as matplotlib would read formulas between them.
    """
    texts = [str(label) for label in labels]
    plain = {text: " ".join(text.split()) for text in texts}
    short = {text: _cut(plain[text], longest) for text in texts}
    groups = _alike(short)
    while groups:
        group = groups.pop()
        names = [plain[text] for text in group]
        found = dict(zip(group, _told_apart(names, longest), strict=True))
        if len(set(found.values())) > 1:  # smaller groups may be left
            short.update(found)
            groups += _alike(found)
    taken = {text for text in short if short[text] == text}
    for text in short:
        if short[text] != text:
            short[text] = _numbered(short[text], taken, longest)
            taken.add(short[text])
    return [short[text].replace("$", r"\$") for text in texts]


def as_entry(label: Hashable) -> str:
    """Return a label as legends take it: they leave out those that start with an underscore."""
    text = str(label)
    return f" {text}" if text.startswith("_") else text


def _cut(text: str, longest: int) -> str:
    """Return a text without its middle if it is too long."""
    if len(text) <= longest:
        return text
    head = longest // 2
    return f"{text[:head]}…{text[len(text) - (longest - 1 - head) :]}"


def _alike(short: dict[str, str]) -> list[list[str]]:
    """Return texts whose short forms are alike, two or more each."""
    groups: dict[str, list[str]] = {}
    for text, label in short.items():
        groups.setdefault(label, []).append(text)
    return [group for group in groups.values() if len(group) > 1]


def _told_apart(names: list[str], longest: int) -> list[str]:
    """Return names by what lies between the start and the end that they share."""
    start, end = _shared(names)
    return [_around(name, start, len(name) - end, longest) for name in names]


def _around(name: str, start: int, stop: int, longest: int) -> str:
    """Return the ends of a name and this part of it, with what is beside it as far as it fits."""
    room = longest - 2 * _EDGE - 2
    spare = max(room - (stop - start), 0)
    start, stop = max(start - (spare + 1) // 2, 0), min(stop + spare // 2, len(name))
    head, tail = name[: min(_EDGE, start)], name[max(stop, len(name) - _EDGE) :]
    return _joined(head, _cut(name[start:stop], room), tail)


def _joined(head: str, middle: str, tail: str) -> str:
    return "…".join(part for part in (head, middle, tail) if part)


def _shared(names: list[str]) -> tuple[int, int]:
    """Return how many characters all names share at the start and, beyond it, at the end."""
    least = min(map(len, names))
    start = next((k for k in range(least) if len({name[k] for name in names}) > 1), least)
    rest = least - start
    end = next((k for k in range(rest) if len({name[-1 - k] for name in names}) > 1), rest)
    return start, end


def _numbered(label: str, taken: set[str], longest: int) -> str:
    """Return a label, with a number if it is taken."""
    tags = (f" ({number})" for number in count(2))
    numbered = (_cut(label, longest - len(tag)) + tag for tag in tags)
    return next(one for one in chain([label], numbered) if one not in taken)
