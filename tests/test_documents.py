"""README, the documentation and the log of measurements say where to look, and there it is."""

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
