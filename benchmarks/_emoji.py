"""Small colour images out of a font: the bitmaps of Noto Color Emoji.

The font is Debian's package ``fonts-noto-color-emoji``; reading it needs fontTools and Pillow.
"""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FONT", "Split", "base_name", "group_split", "load_emoji", "one_of_each", "sequences"]

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")

Images = NDArray[np.float64]
Names = NDArray[np.str_]

_VARIANTS = frozenset(  # code points that only vary an emoji
    {
        *(0x200D, 0xFE0F, 0x2640, 0x2642, 0x27A1),  # joiner, colour, genders, facing right
        *range(0x1F3FB, 0x1F400),  # skin tones
        *range(0x1F9B0, 0x1F9B4),  # hair
    }
)
_PEOPLE = frozenset(
    {
        *(0x1F466, 0x1F467, 0x1F468, 0x1F469, 0x1F9D1, 0x1F9D2),  # boy to adult and child
        *(0x1F474, 0x1F475, 0x1F9D3),  # old ones
        *(0x1F46A, 0x1F46B, 0x1F46C, 0x1F46D),  # families and couples
    }
)
_PERSON = 0x1F9D1


@dataclass(frozen=True)
class Split:
    """Images (n, S, S, 3) from 0 to 1 and the name of each one's group, which are in one part."""

    train: Images
    train_groups: Names
    test: Images
    test_groups: Names


def load_emoji(font: Path = FONT, size: int = 32) -> tuple[Images, Names]:
    """Return the different bitmaps of a font over white, and the name of each one's group.

    Parameters
    ----------
    font : path-like
        Font with PNGs in its table CBDT.
    size : int, default=32
        Side S of the images, in pixels.

    Returns
    -------
    images : ndarray of shape (n, S, S, 3)
        Red, green and blue from 0 to 1.
    groups : ndarray of str of shape (n,)
        The same for variants of an emoji: skin tones, genders, hair.
    """
    from fontTools.ttLib import TTFont
    from PIL import Image

    opened = TTFont(font)
    made = sequences(opened)
    seen: dict[bytes, tuple[Images, str]] = {}
    for name, glyph in opened["CBDT"].strikeData[0].items():
        picture = Image.open(io.BytesIO(glyph.imageData)).convert("RGBA")
        side = max(picture.size)
        square = Image.new("RGBA", (side, side), "white")
        corner = ((side - picture.width) // 2, (side - picture.height) // 2)
        square.alpha_composite(picture, corner)
        small = square.convert("RGB").resize((size, size), Image.Resampling.BOX)
        pixels = np.asarray(small)
        if pixels.min() < 255:  # not of an empty one
            group = base_name(made[name]) if name in made else name
            seen.setdefault(pixels.tobytes(), (pixels / 255.0, group))
    images, groups = zip(*seen.values(), strict=True)
    return np.stack(images), np.array(groups)


def sequences(font: Any) -> dict[str, tuple[int, ...]]:
    """Return the code points that a font shows as each glyph, the shortest sequence of them."""
    code_of = {name: code for code, name in sorted(font.getBestCmap().items(), reverse=True)}
    made = {name: (code,) for name, code in code_of.items()}
    parts: list[tuple[str, list[str]]] = []
    for lookup in font["GSUB"].table.LookupList.Lookup:
        for table in lookup.SubTable:
            table = getattr(table, "ExtSubTable", table)
            for first, ligatures in getattr(table, "ligatures", {}).items():
                parts += [(one.LigGlyph, [first, *one.Component]) for one in ligatures]
    for _ in range(3):  # ligatures of ligatures
        for name, pieces in parts:
            if all(piece in made for piece in pieces):
                codes = tuple(code for piece in pieces for code in made[piece])
                made[name] = min(made.get(name, codes), codes, key=len)
    return made


def base_name(codes: Iterable[int]) -> str:
    """Return what the variants of an emoji have in common, from its code points.

    Skin tones, hair, genders and joiners are left out, and people of any age and gender, alone or
    together, are one person.
    """
    kept: list[int] = []
    for code in codes:
        code = _PERSON if code in _PEOPLE else code
        if code not in _VARIANTS and not (code == _PERSON and code in kept):
            kept.append(code)
    return "-".join(f"{code:x}" for code in kept) or "variants"


def group_split(images: Images, groups: Names, share: float, seed: int) -> Split:
    """Put a share of the groups, with all of their images, on the side of the test images."""
    names = np.unique(groups)
    order = np.random.default_rng(seed).permutation(len(names))
    held = np.isin(groups, names[order[: round(share * len(names))]])
    return Split(images[~held], groups[~held], images[held], groups[held])


def one_of_each(groups: Names, n: int, seed: int) -> NDArray[np.intp]:
    """Return the positions of one image of each of n groups, or of all if there are fewer."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(groups))
    _, first = np.unique(groups[order], return_index=True)
    return np.sort(rng.permutation(order[first])[:n])
