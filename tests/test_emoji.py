"""Which emoji the benchmark of colour images takes for variants of one, and how it splits them."""

import importlib
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

MAN, WOMAN, CHILD, PERSON, ROCKET, DARK, JOINER = (
    *(0x1F468, 0x1F469, 0x1F9D2, 0x1F9D1),
    *(0x1F680, 0x1F3FF, 0x200D),
)


@pytest.fixture
def emoji(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ModuleType:
    monkeypatch.syspath_prepend(str(request.config.rootpath / "benchmarks"))
    return importlib.import_module("_emoji")


@pytest.mark.parametrize(
    "codes",
    [
        (MAN, JOINER, ROCKET),
        (WOMAN, DARK, JOINER, ROCKET),
        (PERSON, ROCKET, JOINER, 0x2640, 0xFE0F),
    ],
)
def test_skin_tone_and_gender_do_not_change_the_group(emoji: ModuleType, codes: tuple) -> None:
    assert emoji.base_name(codes) == "1f9d1-1f680"


def test_other_emoji_are_other_groups_and_any_people_are_one(emoji: ModuleType) -> None:
    assert emoji.base_name([MAN, JOINER, WOMAN, JOINER, CHILD]) == emoji.base_name([PERSON])
    assert emoji.base_name([ROCKET]) == "1f680" != emoji.base_name([MAN, ROCKET])
    assert emoji.base_name([DARK]) == "variants"


def _font(cmap: dict[int, str], ligatures: dict[str, list[tuple[str, list[str]]]]) -> object:
    made = {
        first: [SimpleNamespace(LigGlyph=name, Component=rest) for name, rest in several]
        for first, several in ligatures.items()
    }
    inner = SimpleNamespace(SubTable=[SimpleNamespace(ligatures=made)])
    wrapped = SimpleNamespace(SubTable=[SimpleNamespace(ExtSubTable=inner.SubTable[0])])
    other = SimpleNamespace(SubTable=[SimpleNamespace(mapping={"a": "b"})])
    lookups = SimpleNamespace(Lookup=[other, wrapped])

    class Font(dict):  # type: ignore[type-arg]
        def getBestCmap(self) -> dict[int, str]:  # noqa: N802
            return cmap

    return Font(GSUB=SimpleNamespace(table=SimpleNamespace(LookupList=lookups)))


def test_sequences_of_ligatures_and_of_ligatures_of_them(emoji: ModuleType) -> None:
    cmap = {65: "a", 66: "b", 67: "c"}
    ligatures = {"ab": [("abc", ["c"])], "a": [("ab", ["b"]), ("x", ["?"])]}
    made = emoji.sequences(_font(cmap, ligatures))
    expected = {"a": (65,), "b": (66,), "c": (67,), "ab": (65, 66), "abc": (65, 66, 67)}
    assert made == expected


def test_groups_stay_together_and_the_split_is_reproducible(emoji: ModuleType) -> None:
    groups = np.repeat(np.array([f"group {i}" for i in range(50)]), 3)
    images = np.arange(150.0).reshape(150, 1, 1, 1)
    split = emoji.group_split(images, groups, 0.2, seed=0)
    assert len(np.unique(split.test_groups)) == 10
    assert not set(split.train_groups) & set(split.test_groups)
    for part, names in ((split.train, split.train_groups), (split.test, split.test_groups)):
        assert (groups[part.ravel().astype(int)] == names).all()
    again = emoji.group_split(images, groups, 0.2, seed=0)
    np.testing.assert_array_equal(split.test, again.test)
    other = emoji.group_split(images, groups, 0.2, seed=1)
    assert set(other.test_groups) != set(split.test_groups)


def test_one_image_of_each_group(emoji: ModuleType) -> None:
    groups = np.repeat(np.array([f"group {i}" for i in range(50)]), 3)
    all_of_them = emoji.one_of_each(groups, 1000, seed=0)
    assert sorted(groups[all_of_them]) == sorted(set(groups))
    few = emoji.one_of_each(groups, 7, seed=0)
    assert len(few) == len(set(groups[few])) == 7
    assert len(set(all_of_them % 3)) == 3  # not always the first of a group


def test_the_font_where_it_is_installed(emoji: ModuleType) -> None:
    pytest.importorskip("fontTools")
    pytest.importorskip("PIL")
    if not emoji.FONT.exists():
        pytest.skip("the font is not installed")
    images, groups = emoji.load_emoji(size=8)
    assert images.shape[1:] == (8, 8, 3)
    assert len(images) == len(groups) == len(np.unique(images, axis=0))
    assert images.min() >= 0.0
    assert images.max() == 1.0
    assert np.median(images[:, 0, 0]) == 1.0  # white corners
