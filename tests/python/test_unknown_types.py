"""Documents whose entity types a model does not know."""

from __future__ import annotations

import warnings
from pathlib import Path

import biorel
import pytest
from biorel.cli.main import main
from biorel.prediction.unknown_types import describe_unknown_types

TEXT = """1|t|Aspirin enhances warfarin in fever.
1|a|
1	0	7	Aspirin	{}	1
1	17	25	warfarin	{}	2
1	29	34	fever	Disease	3

"""


def test_suggestions(run: biorel.Run) -> None:
    task = run.model._core.task
    counts = {f'skipped: an entity of type "{name}", which the model does not know, forms no pair': count
              for name, count in (("Disease", 3), ("Chemical", 12))}  # fmt: skip
    assert describe_unknown_types(task, counts, 1) is None
    assert describe_unknown_types(task, {"skipped: something else": 1}, 0) is None
    problem = describe_unknown_types(task, counts, 0)
    assert problem is not None
    assert "the documents have Chemical (12), Disease (3)" in problem
    assert "give types={'Chemical': 'drug'} (--type Chemical=drug)" in problem
    (disease, _) = counts
    assert "(--type THEIRS=OURS)" in str(describe_unknown_types(task, {disease: 3}, 0))


def test_documents_of_other_types(run: biorel.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "in.pubtator"
    path.write_text(TEXT.format("Chemical", "Chemical"))
    run.model.save(tmp_path / "model")
    suggestion = r"\(--type Chemical=drug\)"
    with pytest.warns(UserWarning, match=suggestion):
        assert len(biorel.predict_documents(run.model, path)) == 0
    with pytest.warns(UserWarning, match=suggestion):
        biorel.predict_documents(run.model, path, tmp_path / "out", progress=False)
    command = ["predict", str(tmp_path / "model"), str(path), "--no-progress"]
    assert main(command) == 1
    assert "--type Chemical=drug" in capsys.readouterr().err
    assert main([*command, "--type", "Chemical=drug", "--format", "tsv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert main([*command, "--output", str(tmp_path / "cli")]) == 1
    assert "types: no pair was formed" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["DRUG", "Drug", "drug"])
def test_types_match_in_any_case(name: str, run: biorel.Run, tmp_path: Path) -> None:
    (tmp_path / "in.pubtator").write_text(TEXT.format(name, name))
    assert len(biorel.predict_documents(run.model, tmp_path / "in.pubtator")) == 1
    # One known entity alone forms no pair, and other types are not at fault.
    (tmp_path / "in.pubtator").write_text(TEXT.format(name, "drug").replace("Disease", "DRUG"))
    assert len(biorel.predict_documents(run.model, tmp_path / "in.pubtator")) == 3
