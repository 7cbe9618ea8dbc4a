"""The files of releases: they agree with each other and with the package."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import biorel
import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_there_are_workflows() -> None:
    assert [path.stem for path in WORKFLOWS] == ["docs", "release", "tests"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_are_complete(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert True in workflow  # YAML 1.1 reads the key `on` as true
    jobs = workflow["jobs"]
    for name, job in jobs.items():
        needs = job.get("needs", [])
        assert set([needs] if isinstance(needs, str) else needs) <= jobs.keys(), name
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step), (name, step)
            assert re.fullmatch(r"[\w-]+/[\w-]+@[\w./-]+", step.get("uses", "a/b@v1")), (name, step)
        # Every value of the matrix that a job uses is defined in it.
        used = set(re.findall(r"matrix\.(\w+)", str(job)))
        matrix = job.get("strategy", {}).get("matrix", {})
        rows = matrix.get("include", [matrix])
        assert all(used <= row.keys() for row in rows), name


def test_what_workflows_run_exists() -> None:
    texts = "\n".join(path.read_text(encoding="utf-8") for path in WORKFLOWS)
    targets = set(re.findall(r"make (\w+)", texts))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert targets
    assert all(re.search(rf"(?m)^{target}:", makefile) for target in targets)
    assert (ROOT / ".ci" / "run").is_file()


def test_versions_agree() -> None:
    assert str(read(ROOT / "CITATION.cff")["version"]) == biorel.__version__
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'"biorel-cuda13=={biorel.__version__}"' in project
    (ruff,) = (repo["rev"] for repo in read(ROOT / ".pre-commit-config.yaml")["repos"] if "ruff" in repo["repo"])
    assert f'"ruff=={ruff.removeprefix("v")}"' in project


def test_issue_templates_have_unique_ids() -> None:
    for path in sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")):
        template = read(path)
        if path.stem != "config":
            assert {"name", "description", "body"} <= template.keys()
            ids = [field["id"] for field in template["body"]]
            assert len(ids) == len(set(ids))
