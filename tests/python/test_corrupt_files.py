"""A corrupt file is an error of biorel or of the operating system, and nothing else."""

from __future__ import annotations

from random import Random

import biorel
import pytest
from corrupt import TARGETS, Files

TIMES = {"config": 250, "stream": 60, "sentences": 40}


@pytest.fixture(scope="module")
def files(run: biorel.Run, tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("corrupt"), run.model)


@pytest.mark.parametrize("name", TARGETS)
def test_corruption_is_an_error(files: Files, name: str) -> None:
    for number in range(TIMES[name]):
        TARGETS[name](files, Random(number))


@pytest.mark.parametrize("manifest", ["[]", "null", "1", '"x"', "{", "[" * 100_000])
def test_a_manifest_of_an_unexpected_form(files: Files, manifest: str) -> None:
    (files.folder / "formed").mkdir(exist_ok=True)
    (files.folder / "formed" / "manifest.json").write_text(manifest)
    with pytest.raises(biorel.ConfigError, match=r"manifest\.json is corrupt"):
        files.stream(files.folder / "formed")
