"""The order of the packages of `python/biorel`: imports, including those for types, only go down, without a circle.

Also: every source file that CONTRIBUTING.md names exists.
"""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOP = ROOT / "python" / "biorel"
# From the bottom up. A package imports from those before it and from itself, but not from its own row.
ORDER = [
    ["_biorel", "errors", "_types"],
    ["_extension", "_files", "_html", "_numbers", "_pickling", "_progress", "_tables", "_warnings"],
    ["_journal"],
    ["data"],
    ["evaluation"],
    ["models"],
    ["training"],
    ["prediction", "plotting"],
    ["interpretation"],
    ["experiments"],
    ["reproduction"],
    ["serving"],
    ["cli"],
    ["__main__"],
]
LEVEL = {package: level for level, packages in enumerate(ORDER) for package in packages}


def module_name(path: Path) -> str:
    parts = path.relative_to(TOP.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(TOP.rglob("*.py"))}
# The extension is a module, too; its types are in its stub.
KNOWN = {*MODULES, "biorel._biorel"}


def imports(source: str, module: str) -> set[str]:
    """The modules of biorel that a module imports, wherever in the file: in functions and under TYPE_CHECKING too.

    ``from package import name`` imports the module ``package.name`` if there is one, else ``package``.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative imports are not used"
            base = node.module or ""
            found |= {inner if (inner := f"{base}.{alias.name}") in KNOWN else base for alias in node.names}
    return {name for name in found if name.split(".")[0] == "biorel"} - {module}


GRAPH = {module: imports(path.read_text(encoding="utf-8"), module) for module, path in MODULES.items()}


def circle(graph: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def upward(graph: dict[str, set[str]]) -> list[str]:
    """Imports that do not go down to a lower row or stay inside their package."""
    wrong = []
    for module, targets in graph.items():
        if module == "biorel":
            continue
        package = module.split(".")[1]
        for target in targets:
            inner = target.partition(".")[2].partition(".")[0]
            if inner != package and not LEVEL.get(inner, len(ORDER)) < LEVEL[package]:
                wrong.append(f"{module} imports {target}")
    return sorted(wrong)


def test_there_is_no_circle() -> None:
    assert circle(GRAPH) == []


def test_imports_go_down() -> None:
    assert {module.split(".")[1] for module in KNOWN if module != "biorel"} == set(LEVEL)
    assert upward(GRAPH) == []


def test_nothing_imports_the_top_package() -> None:
    assert [module for module, targets in GRAPH.items() if "biorel" in targets] == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from biorel import load_corpus", {"biorel"}),
        ("import biorel", {"biorel"}),
        ("from biorel import _biorel", {"biorel._biorel"}),
        ("if TYPE_CHECKING:\n    from biorel.training.run import Run", {"biorel.training.run"}),
        ("def late():\n    from biorel.cli import main", {"biorel.cli.main"}),
        ("import os\nfrom pandas import DataFrame", set()),
    ],
)
def test_what_counts_as_an_import(source: str, expected: set[str]) -> None:
    assert imports(source, "biorel.data.corpus") == expected


def test_a_circle_and_an_import_upwards_would_be_found() -> None:
    bad = {**GRAPH, "biorel.data.corpus": {*GRAPH["biorel.data.corpus"], "biorel.models.relation_model"}}
    assert "biorel.data.corpus" in circle(bad)
    assert upward(bad) == ["biorel.data.corpus imports biorel.models.relation_model"]


def named_files(text: str) -> set[str]:
    """The source files that a text names, in full or by the last parts of their paths; `NAME.rs` is a placeholder."""
    found = set(re.findall(r"(?<![\w/{}*.-])[\w./-]+\.(?:py|pyi|rs|cu|cuh|c|cpp)\b(?!\()", text))
    return {name for name in found if Path(name).stem != "NAME"}


def test_files_named_in_contributing_exist() -> None:
    folders = ("src", "python", "tests", "benchmarks", "tools", "fuzz", "cuda13", "docs", "notebooks")
    paths = [*ROOT.glob("*.*"), *(path for folder in folders for path in (ROOT / folder).rglob("*.*"))]
    existing = [f"/{path.relative_to(ROOT).as_posix()}" for path in paths]
    named = named_files((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert len(named) > 100
    assert sorted(name for name in named if not any(path.endswith(f"/{name}") for path in existing)) == []


def test_named_files_are_found() -> None:
    text = "`src/corpus/NAME.rs`, `src/py/corpus.rs` -> `kind.rs` (`Corpus::read`), `x/{a,b}.rs`"
    assert named_files(text) == {"src/py/corpus.rs", "kind.rs"}
