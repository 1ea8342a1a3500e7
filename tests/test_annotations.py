"""Annotations say what values are: few are Any, and none is left out."""

import ast
from collections.abc import Iterator
from pathlib import Path

import sklearn_qavi

PACKAGE = Path(sklearn_qavi.__file__).parent
LARGEST_SHARE = 0.05
SAME = {"Any", "Cells"}  # what mypy takes for Any, by name


def annotations(tree: ast.AST) -> Iterator[ast.expr | None]:
    """Yield the annotation of each parameter, result and annotated name, None where none is."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign):
            yield node.annotation
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = node.args
            named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
            parameters = [p for p in (*named, given.vararg, given.kwarg) if p is not None]
            yield from (p.annotation for p in parameters if p.arg not in ("self", "cls"))
            yield node.returns


def mentions_any(annotation: ast.expr) -> bool:
    """Return whether an annotation says Any somewhere, also one that is quoted."""
    for node in ast.walk(annotation):
        if isinstance(node, ast.Name | ast.Attribute):
            if SAME & {getattr(node, "id", ""), getattr(node, "attr", "")}:
                return True
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                quoted = ast.parse(node.value, mode="eval").body
            except SyntaxError:  # a string that a Literal names
                continue
            if mentions_any(quoted):
                return True
    return False


def test_mentions_any_sees_what_is_nested_or_quoted() -> None:
    said = ["Any", "dict[str, Any]", "typing.Any", "'Any | None'", "Callable[..., 'Any']", "Cells"]
    assert all(mentions_any(ast.parse(text, mode="eval").body) for text in said)
    unsaid = ["object", "Literal['any of them']", "list[Anyone]"]
    assert not any(mentions_any(ast.parse(text, mode="eval").body) for text in unsaid)


def test_few_annotations_are_any() -> None:
    n_slots, by_file = 0, {}
    for path in sorted(PACKAGE.rglob("*.py")):
        slots = list(annotations(ast.parse(path.read_text(encoding="utf-8"))))
        assert None not in slots, path
        n_slots += len(slots)
        by_file[path.relative_to(PACKAGE).as_posix()] = sum(mentions_any(s) for s in slots if s)
    most = sorted(by_file.items(), key=lambda item: -item[1])[:10]
    assert sum(by_file.values()) <= LARGEST_SHARE * n_slots, most
