"""The search for settings: what it reads, what it suggests, resuming after a kill."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import biorel
import numpy as np
import optuna
import pandas as pd
import pytest
from biorel.experiments import trial
from child_process import kill_after, start_python
from tiny_bert import write_encoder

SHORT: dict[str, Any] = {"max_length": 96, "max_steps": 2, "progress": False}
SPACE: dict[str, Any] = {
    "learning_rate": (1e-4, 1e-2),
    "batch_size": (8, 16),
    "head": ["cls", "entity"],
    "head_dropout": optuna.distributions.FloatDistribution(0.0, 0.5, step=0.25),
}
SAME = ["number", *SPACE, "status", "precision", "recall", "f1", "support", "train", "dev", "steps"]


@pytest.fixture(scope="module")
def found(ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path_factory: pytest.TempPathFactory) -> biorel.Search:
    """Six trials."""
    directory = tmp_path_factory.mktemp("search") / "run"
    return biorel.search(ddi, directory=directory, space=SPACE, trials=6, dev=0.2, encoder=encoder, seed=3, **SHORT)


def test_the_trials_are_in_the_space(found: biorel.Search) -> None:
    trials = found.trials
    assert trials["number"].tolist() == list(range(6))
    assert (trials["status"] == "finished").all()
    assert trials["learning_rate"].between(1e-4, 1e-2).all()
    assert trials["batch_size"].isin(range(8, 17)).all()
    assert set(trials["head"]) == {"cls", "entity"}
    assert set(trials["head_dropout"]) <= {0.0, 0.25, 0.5}
    assert trials["learning_rate"].nunique() == 6
    assert (trials["train"] + trials["dev"] == 406).all()
    assert found.space.to_numpy().tolist() == [
        ["learning_rate", "0.0001 to 0.01", "log"],
        ["batch_size", "8 to 16", "linear"],
        ["head", "cls, entity", "choices"],
        ["head_dropout", "0.0 to 0.5 in steps of 0.25", "linear"],
    ]
    assert [one.value for one in found.study.trials] == trials["f1"].tolist()
    assert re.fullmatch(r"micro-F1 over the 4 positive classes, dev, \d+ pairs", found.protocol)


def test_the_best_settings_repeat_the_best_trial(found: biorel.Search, ddi: biorel.Corpus) -> None:
    best = found.trials.sort_values("f1", ascending=False, kind="stable").iloc[0]
    assert {name: found.best[name] for name in SPACE} == {name: best[name] for name in SPACE}
    assert found.best["dev"] == 0.2
    run = biorel.finetune(ddi, **found.best, progress=False)
    scores = run.score("dev").set_index("class").loc["micro"]
    assert scores[["precision", "recall", "f1"]].tolist() == best[["precision", "recall", "f1"]].tolist()
    assert run.test == "test"


def test_the_test_split_is_not_read(
    found: biorel.Search, ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path
) -> None:
    """A corpus without a test split gives the same trials."""
    without = ddi.divide({"train": ddi.sentences("train")["document"].unique()})
    assert without.splits == ["train"]
    again = biorel.search(without, directory=tmp_path, space=SPACE, trials=6, dev=0.2, encoder=encoder, seed=3, **SHORT)
    pd.testing.assert_frame_equal(again.trials[SAME], found.trials[SAME])


def test_what_notebooks_and_terminals_show(found: biorel.Search) -> None:
    best = f"{found.trials['f1'].max():.3f}"
    assert f"best F1 {best} with learning_rate=" in repr(found)
    shown = found._repr_html_()
    for text in (best, found.protocol, "<td>log</td>", f"{found.best['learning_rate']:.3g}"):
        assert text in shown
    assert "nan" not in shown.lower()


def test_more_trials_go_on_and_other_settings_are_refused(
    found: biorel.Search, ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Any] = []
    real = trial.run_trial

    def counted(*arguments: Any) -> Any:
        trained.append(arguments[4]["learning_rate"])
        return real(*arguments)

    monkeypatch.setattr(trial, "run_trial", counted)
    given: dict[str, Any] = {"directory": tmp_path, "space": SPACE, "dev": 0.2, "encoder": encoder, "seed": 3, **SHORT}
    biorel.search(ddi, trials=2, **given)
    more = biorel.search(ddi, trials=6, **given)
    assert trained == found.trials["learning_rate"].tolist()
    pd.testing.assert_frame_equal(more.trials[SAME], found.trials[SAME])
    for changed, words in (
        ({"seed": 4}, "seed 3, not 4"),
        ({"max_steps": 3}, "max_steps 2, not 3"),
        ({"space": {**SPACE, "learning_rate": (1e-4, 2e-2)}}, "high 0.01, not 0.02"),
        ({"dev": 0.3}, "dev 0.2, not 0.3"),
    ):
        with pytest.raises(biorel.ConfigError, match=words):
            biorel.search(ddi, trials=2, **{**given, **changed})
    # A record that does not belong to its place is found.
    lines = tmp_path / "trials.jsonl"
    lines.write_text(lines.read_text().replace('"batch_size": ', '"batch_size": 1'))
    with pytest.raises(biorel.ConfigError, match="trial-0 in .* but the sampler suggests"):
        biorel.search(ddi, trials=2, **given)


def test_settings_that_come_again_are_not_trained_again(
    ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path
) -> None:
    found = biorel.search(
        ddi, directory=tmp_path, space={"head": ["cls", "entity"]}, trials=5, dev=0.2, encoder=encoder, **SHORT
    )
    assert len((tmp_path / "trials.jsonl").read_text().splitlines()) == found.trials["head"].nunique() <= 2
    assert found.trials["number"].tolist() == list(range(5))
    assert (found.trials.groupby("head")["f1"].nunique() == 1).all()


def test_numbers_of_numpy_are_the_same_search(
    tmp_path: Path, ddi: biorel.Corpus, encoder: biorel.Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"directory": tmp_path / "run", "encoder": encoder, "max_length": 96, "progress": False}
    space = {"learning_rate": (1e-4, 1e-2), "batch_size": (8, 16), "head_dropout": [0.0, 0.25]}
    found = biorel.search(ddi, space=space, trials=2, dev=0.25, seed=1, max_steps=1, **given)
    monkeypatch.setattr(trial, "run_trial", None)  # nothing is trained again
    numbers = {
        "learning_rate": (np.float64(1e-4), np.float64(1e-2)),
        "batch_size": (np.int64(8), np.int64(16)),
        "head_dropout": np.array([0.0, 0.25]),
    }
    ours = {"trials": np.int64(2), "dev": np.float64(0.25), "seed": np.int64(1), "max_steps": np.int64(1)}
    again = biorel.search(ddi, space=numbers, **ours, **given)
    pd.testing.assert_frame_equal(again.trials, found.trials)
    pd.testing.assert_frame_equal(again.space, found.space)


def test_failed_trials_are_told_to_the_study(tmp_path: Path, ddi: biorel.Corpus, encoder: biorel.Encoder) -> None:
    # A head that does not fit the marking fails in its trial.
    given: dict[str, Any] = {"directory": tmp_path, "trials": 4, "dev": 0.2, "encoder": encoder, **SHORT}
    space = {"head": ["cls", "entity"], "learning_rate": (1e-4, 1e-2)}
    found = biorel.search(ddi, space=space, marking="levitated", **given)
    failed = found.trials[found.trials["head"] == "cls"]
    assert 0 < len(failed) < 4
    assert set(failed["status"]) == {"failed"}
    assert failed["error"].str.contains("choose entity or entity-attention").all()
    assert found.best["head"] == "entity"
    states = [one.state.name for one in found.study.trials]
    assert states == ["FAIL" if head == "cls" else "COMPLETE" for head in found.trials["head"]]
    again = biorel.search(ddi, space=space, marking="levitated", **given)
    pd.testing.assert_frame_equal(again.trials, found.trials)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"space": {}}, "space: must be a mapping"),
        ({"space": {"learning_rates": (1e-5, 1e-4)}}, "did you mean `learning_rate`"),
        ({"space": {"seed": [1, 2]}}, "`seed` cannot be searched"),
        ({"space": {"encoder": ["minilm"]}}, "search once for each encoder"),
        ({"space": {"epochs": 3}}, "epochs must be a range"),
        ({"space": {"epochs": (5, 2)}}, "epochs: "),
        ({"space": {"epochs": (0, 2)}}, "space: epochs"),
        ({"space": {"learning_rate": (0.0, 1e-4)}}, "learning_rate"),
        ({"space": {"head": ["cls", "cnn"]}}, "cnn"),
        ({"space": {"class_weights": [{"advise": 2.0}]}}, "a choice must be text, a number"),
        ({"space": {"max_steps": [1, 2]}}, "also given as a fixed setting"),
        ({"trials": 0}, "trials: must be a whole number"),
        ({"dev": "test"}, "dev: `test` must stay unseen"),
        ({"dev": "train"}, "dev: `train` is trained on"),
        ({"dev": "development"}, "development"),
        ({"dev": 1.5}, "dev: must be a fraction"),
        ({"test": "test"}, "test: cannot be set here"),
    ],
)
def test_invalid_searches_are_errors_before_any_training(
    ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path, given: dict[str, Any], words: str
) -> None:
    options = {"space": {"learning_rate": (1e-4, 1e-3)}, "dev": 0.2, **SHORT, **given}
    with pytest.raises(biorel.ConfigError, match=words):
        biorel.search(ddi, directory=tmp_path / "run", encoder=encoder, **options)
    assert not (tmp_path / "run").exists()


def test_a_corpus_without_a_training_split(encoder: biorel.Encoder, tmp_path: Path) -> None:
    with pytest.raises(biorel.ConfigError, match=r"divide it with corpus.split"):
        biorel.search(biorel.load_sample("aimed"), directory=tmp_path, space=SPACE, encoder=encoder, **SHORT)


def test_without_optuna_the_error_names_the_extra(
    ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(biorel.ConfigError, match=re.escape('pip install "biorel[search]"')):
        biorel.search(ddi, directory=tmp_path, space=SPACE, encoder=encoder, **SHORT)


SCRIPT = """
import sys, biorel
biorel.search(biorel.load_sample("ddi"), directory=sys.argv[2], encoder=sys.argv[1], trials=12, dev=0.2, seed=5,
              space={"learning_rate": (1e-4, 1e-2), "head": ["cls", "entity"]}, max_length=96, max_steps=4,
              save_steps=1, progress=False, threads=1)
"""


def test_a_killed_search_resumes_with_the_same_suggestions(tmp_path: Path, ddi: biorel.Corpus) -> None:
    encoder, killed = str(write_encoder(tmp_path / "encoder")), tmp_path / "killed"

    def finished() -> int:
        table = killed / "trials.jsonl"
        return table.read_bytes().count(b"\n") if table.exists() else 0

    # The sampler draws its first ten suggestions at random; the last depend on the results before.
    process = start_python(SCRIPT, encoder, killed)
    assert kill_after(lambda: finished() >= 10, process, delay=0.02), "the search ended before it could be killed"
    given: dict[str, Any] = {"encoder": encoder, "trials": 12, "dev": 0.2, "seed": 5, **SHORT, "max_steps": 4}
    given["space"] = {"learning_rate": (1e-4, 1e-2), "head": ["cls", "entity"]}
    resumed = biorel.search(ddi, directory=killed, **given)
    expected = biorel.search(ddi, directory=tmp_path / "uninterrupted", **given)
    columns = [name for name in SAME if name in expected.trials]
    pd.testing.assert_frame_equal(resumed.trials[columns], expected.trials[columns])
    assert resumed.best == expected.best
    names = [json.loads(line)["trial"] for line in (killed / "trials.jsonl").read_text().splitlines()]
    assert names == [f"trial-{number}" for number in range(12)]
    assert not list((killed / "checkpoints").iterdir())
