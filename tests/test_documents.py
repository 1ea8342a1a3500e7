"""README, the documentation and the log of measurements say where to look, and there it is."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"

# written by sphinx-gallery and autosummary, or by tools
MADE = {"_build", "auto_examples", "generated", ".venv", "node_modules"}


def written(*patterns: str) -> list[Path]:
    """Return the files of the repository that people wrote, by pattern."""
    found = [path for pattern in patterns for path in ROOT.glob(pattern)]
    return sorted(path for path in found if not MADE & set(path.relative_to(ROOT).parts))


MARKDOWN = written("*.md", "benchmarks/**/*.md")
PAGES = written("docs/**/*.rst")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", MARKDOWN, ids=name_of)
def test_links_of_markdown_lead_to_files(page):
    text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.S)
    targets = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text)
    missing = [
        target
        for target in targets
        if not re.match(r"[a-z]+:", target) and not (page.parent / target).exists()
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_of_pages_to_the_repository_lead_to_files(page):
    text = page.read_text(encoding="utf-8")
    roles = re.findall(r":(repository|results):`(?:[^`<]*<)?([^`>]+)>?`", text)
    files = [ROOT / to if role == "repository" else RESULTS / f"{to}.md" for role, to in roles]
    assert [name_of(file) for file in files if not file.exists()] == []


def test_the_index_of_results_lists_each_of_them_once():
    listed = re.findall(r"\]\(([\w-]+\.md)\)", (RESULTS / "README.md").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(p.name for p in RESULTS.glob("*.md") if p.name != "README.md")


def sources(page: Path) -> list[str]:
    """Return where the tables of a page come from: its comments ``source: FILE``."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"(?:<!--|^\.\.) source: (.+?)(?: -->)?$", text, flags=re.M)
    return [source for line in found for source in line.split("; ")]


@pytest.mark.parametrize("page", [p for p in [*PAGES, *MARKDOWN] if sources(p)], ids=name_of)
def test_tables_come_from_files_that_are_there(page):
    assert [source for source in sources(page) if not (ROOT / source).is_file()] == []


def test_the_tables_of_readme_and_comparison_name_their_sources():
    assert sources(ROOT / "README.md")
    assert len(sources(ROOT / "docs" / "comparison.rst")) >= 3


def test_make_runs_the_sources_of_tables():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    scripts = {s for p in [*PAGES, *MARKDOWN] for s in sources(p) if s.endswith(".py")}
    assert sorted(s for s in scripts if s not in makefile) == []


# Words that readers would have to learn first, and what to say in their place.
AVOIDED = {
    "missing value, missing cell, missing part": r"\bhol(?:e|es|ey)\b",
    "category": r"\b(?:factor|category) levels?\b|\blevels? of an? (?:factor|category)\b",
    "per row, for each row": r"\b(?:nats|seconds?|ms|milliseconds?|evaluations|once|curve|line|MB)"
    r"\s+an?\s+(?:row|cell|image|draw|pixel|fold|imputer|model|decoder|column|batch|call)\b",
}


def prose(path: Path) -> str:
    """Return what people read of a file: of Python its docstrings and comments."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return text
    comments = "\n".join(re.findall(r"#(.*)", text))
    nodes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = [ast.get_docstring(n) for n in ast.walk(ast.parse(text)) if isinstance(n, nodes)]
    return "\n".join([*filter(None, docstrings), comments])


def avoided(text: str) -> list[str]:
    """Return the private words of a text, each with what to say in its place."""
    return [
        f"{' '.join(match[0].split())!r}: say {better}"
        for better, pattern in AVOIDED.items()
        for match in re.finditer(pattern, text, flags=re.I)
    ]


@pytest.mark.parametrize(
    ("text", "n_found"),
    [
        ("fill the holes", 1),
        ("the levels of a factor", 1),
        ("in nats\na row", 1),
        ("one fit per row", 0),
        ("the number of steps a row needs", 0),
        ("level=0.9 and 256 levels of grey", 0),
    ],
)
def test_private_words_are_found(text, n_found):
    assert len(avoided(text)) == n_found


# names that were dropped stand in the changelog; a result is not rewritten
READ = [
    *PAGES,
    *(p for p in MARKDOWN if p.name != "CHANGELOG.md" and p.parent != RESULTS),
    *written("examples/**/*.py", "examples/**/*.rst", "sklearn_qavi/**/*.py", "benchmarks/*.py"),
]


@pytest.mark.parametrize("page", READ, ids=name_of)
def test_plain_words(page):
    assert avoided(prose(page)) == []
