"""Comparisons: the grid, resuming after a kill, failures, and paired tests."""

from __future__ import annotations

import json
import random
import signal
import subprocess
from pathlib import Path
from typing import Any

import biorel
import numpy as np
import pandas as pd
import pytest
from biorel._files import exclusive_lock
from biorel.cli.main import main
from biorel.evaluation import paired_tests
from biorel.experiments import trial
from biorel.experiments.run_directory import RunDirectory
from child_process import kill_after, start_python, wait_until
from tiny_bert import write_encoder

SHORT = {"max_length": 96, "max_steps": 2, "learning_rate": 1e-3, "progress": False}
SAME = ["encoder", "head", "seed", "fold", "status", "precision", "recall", "f1", "support", "train", "test", "steps"]


@pytest.fixture(scope="module")
def comparison(
    ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path_factory: pytest.TempPathFactory
) -> biorel.Comparison:
    """Two heads, two seeds, on the corpus's own splits."""
    folder = tmp_path_factory.mktemp("comparison")
    return biorel.compare(ddi, encoders=[encoder], seeds=[1, 2], directory=folder / "run", **SHORT)


def test_the_grid(comparison: biorel.Comparison, encoder: biorel.Encoder) -> None:
    assert comparison.trials[["head", "seed"]].to_numpy().tolist() == [
        ["cls", 1],
        ["attention", 1],
        ["cls", 2],
        ["attention", 2],
    ]
    assert comparison.trials["fold"].isna().all()
    assert (comparison.trials["status"] == "finished").all()
    assert comparison.failures.empty
    results = comparison.results
    assert results["trials"].tolist() == [2, 2]
    for row in results.itertuples():
        f1 = comparison.trials.loc[comparison.trials["head"] == row.head, "f1"]
        assert row.f1 == pytest.approx(f1.mean())
        assert row.sd == pytest.approx(f1.std(), nan_ok=True)
        # One degree of freedom: the 97.5 % quantile of Student's t is tan(0.475 pi).
        half = np.tan(0.475 * np.pi) * f1.std() / 2**0.5
        assert (row.low, row.high) == (pytest.approx(row.f1 - half), pytest.approx(row.f1 + half))
    assert results.protocol == (
        "micro-F1 over the 4 positive classes, test, 142 pairs; sd and 95 % t interval over the seeds"
    )
    assert len(comparison.predictions("cls")) == 284
    assert len(comparison.predictions("cls", seed=2)) == 142


def test_a_trial_equals_a_finetuning(
    comparison: biorel.Comparison, ddi: biorel.Corpus, encoder: biorel.Encoder
) -> None:
    run = biorel.finetune(ddi, encoder, head="cls", seed=2, **SHORT)
    stored = comparison.predictions("cls", seed=2)
    expected = run.predictions()
    for label in ddi.labels:
        assert stored[f"p_{label}"].tolist() == expected[f"p_{label}"].astype(float).tolist()
    assert stored["predicted"].tolist() == expected["predicted"].tolist()


def test_paired(comparison: biorel.Comparison) -> None:
    table = comparison.paired("cls", "attention", samples=200)
    assert table["test"].tolist() == ["bootstrap", "McNemar by document", "McNemar by document", "sign test"]
    assert table["seed"].isna().tolist() == [True, False, False, True]
    boot = table.iloc[0]
    documents = comparison.predictions("cls", seed=1)["document"].nunique()
    assert boot["n"] == documents >= 10
    assert boot["low"] <= boot["difference"] <= boot["high"]
    assert table["p"].between(0, 1, inclusive="right").all()
    singly = comparison.paired("cls", "attention", samples=200, unit="instance")
    assert singly["test"].tolist() == ["bootstrap", "McNemar", "McNemar", "sign test"]
    assert singly["n"].iloc[0] == 142
    for seed, row, single in zip((1, 2), table.iloc[1:3].itertuples(), singly.iloc[1:3].itertuples(), strict=True):
        sides = [comparison.predictions(head, seed=seed) for head in ("cls", "attention")]
        right = [side["gold"] == side["predicted"] for side in sides]
        assert (single.first, single.second) == ((right[0] & ~right[1]).sum(), (right[1] & ~right[0]).sum())
        surplus = (right[0].astype(int) - right[1].astype(int)).groupby(sides[0]["document"]).sum()
        assert (row.first, row.second) == ((surplus > 0).sum(), (surplus < 0).sum())
    assert "no outcome could reach p < 0.05" in table.iloc[3]["note"]
    assert "not corrected for several comparisons" in table.protocol
    back = comparison.paired("attention", "cls", samples=200)
    assert back["p"].tolist() == table["p"].tolist()
    assert back["difference"].tolist() == (-table["difference"]).tolist()
    sentences = comparison.paired("cls", "attention", samples=20, unit="sentence").iloc[0]
    assert documents < sentences["n"] < 142
    for wrong, words in [(("cls", "cls"), "first side"), (("cls", "cnn"), "cnn"), (("bert", "cls"), "bert")]:
        with pytest.raises(biorel.ConfigError, match=words):
            comparison.paired(*wrong)
    with pytest.raises(biorel.ConfigError, match="unit"):
        comparison.paired("cls", "attention", unit="word")  # type: ignore[arg-type]


def test_few_documents_have_no_paired_test(ddi: biorel.Corpus) -> None:
    table = biorel.load_sample("ddi").instances("test").rename(columns={"label": "gold"})
    few = table[table["document"].isin(table["document"].unique()[:9])]
    side = paired_tests.Side(few.assign(predicted=few["gold"]), [few["gold"].tolist()], [1.0], by_fold=False)
    wrong = [["false"] * len(few)]
    result = paired_tests.compare_decisions(
        ddi, side, side._replace(predicted=wrong), [1], unit="document", samples=50, confidence_level=0.95, seed=1
    )
    assert result[["p", "low", "high"]].iloc[0].isna().all()
    assert "only 9 documents: no test or interval below 10" in result["note"].iloc[0]


def test_a_comparison_can_be_extended(
    ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    real = trial.run_trial

    def counted(*arguments: object) -> object:
        calls.append(arguments[4]["head"])  # type: ignore[index]
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(trial, "run_trial", counted)
    directory = tmp_path / "run"
    biorel.compare(ddi, encoders=[encoder], heads=["cls"], directory=directory, **SHORT)
    more = biorel.compare(ddi, encoders=[encoder], heads=["lstm", "cls"], directory=directory, **SHORT)
    assert calls == ["cls", "lstm"]
    assert more.trials["head"].tolist() == ["lstm", "cls"]
    with pytest.raises(biorel.ConfigError, match="learning_rate 0.001, not 0.002"):
        biorel.compare(ddi, encoders=[encoder], directory=directory, **{**SHORT, "learning_rate": 2e-3})
    with pytest.raises(biorel.ConfigError, match="corpus"):
        biorel.compare(ddi.fold(0), encoders=[encoder], directory=directory, **SHORT)


def test_failures_are_recorded_and_not_fatal(ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path) -> None:
    huge = np.full((32, 32), 1e38, np.float32)
    broken = write_encoder(tmp_path / "broken", encoder__layer__1__attention__self__query__weight=huge)
    arguments = {"encoders": [broken, encoder], "heads": ["cls"], "directory": tmp_path / "run", **SHORT}
    result = biorel.compare(ddi, **arguments)
    assert result.trials["status"].tolist() == ["failed", "finished"]
    assert result.failures["error"].str.startswith("TrainingError: step 1").tolist() == [True]
    assert result.results["failed"].tolist() == [1, 0]
    assert np.isnan(result.results["f1"][0])
    assert result.results["f1"][1] >= 0
    assert "1 of 2 trials failed" in repr(result)
    with pytest.raises(biorel.ConfigError, match="no seed has finished"):
        result.paired(str(broken), encoder.name)
    lines = (tmp_path / "run" / "trials.jsonl").read_text().splitlines()
    again = biorel.compare(ddi, **arguments)
    assert (tmp_path / "run" / "trials.jsonl").read_text().splitlines() == lines
    assert again.failures.equals(result.failures)
    biorel.compare(ddi, retry_failed=True, **arguments)
    assert len((tmp_path / "run" / "trials.jsonl").read_text().splitlines()) == 3


SCRIPT = """
import sys, biorel
biorel.compare(biorel.load_sample("aimed"), encoders=[sys.argv[1]], seeds=[1, 2], folds=2, directory=sys.argv[2],
               max_length=96, max_steps=20, learning_rate=1e-3, progress=False, save_steps=2, threads=1)
"""


def test_a_killed_comparison_resumes_to_the_same_results(encoder: biorel.Encoder, tmp_path: Path) -> None:
    delays = random.Random(11)
    killed, uninterrupted = tmp_path / "killed", tmp_path / "uninterrupted"
    settings = {"max_length": 96, "max_steps": 20, "learning_rate": 1e-3, "progress": False}
    grid = {"encoders": [encoder.name], "seeds": [1, 2], "folds": 2}
    kills = 0

    def finished() -> int:
        table = killed / "trials.jsonl"
        return table.read_bytes().count(b"\n") if table.exists() else 0

    for target in (1, 3, 5):
        process = start_python(SCRIPT, encoder.name, killed)
        kills += kill_after(lambda: finished() >= target, process, delay=delays.uniform(0, 0.2))  # noqa: B023
    assert kills >= 2
    assert 1 <= finished() < 8
    corpus = biorel.load_sample("aimed")
    resumed = biorel.compare(corpus, directory=killed, **grid, **settings)
    expected = biorel.compare(corpus, directory=uninterrupted, **grid, **settings)
    pd.testing.assert_frame_equal(resumed.trials[SAME], expected.trials[SAME])
    pd.testing.assert_frame_equal(pd.DataFrame(resumed.results), pd.DataFrame(expected.results))
    for head in ("cls", "attention"):
        pd.testing.assert_frame_equal(resumed.predictions(head), expected.predictions(head))
    tests = [pd.DataFrame(run.paired("cls", "attention", samples=100)) for run in (resumed, expected)]
    pd.testing.assert_frame_equal(*tests)
    assert tests[0]["n"].iloc[0] == resumed.predictions("cls", seed=1)["document"].nunique()
    assert not list((killed / "checkpoints").iterdir())
    assert not list(killed.rglob("*.partial"))
    names = [json.loads(line)["trial"] for line in (killed / "trials.jsonl").read_text().splitlines()]
    assert len(names) == len(set(names)) == 8
    assert "2 folds by document" in resumed.results.protocol
    assert resumed.results["pooled_f1"].notna().all()


def test_the_trial_of_an_incomplete_line_is_repeated(
    ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path
) -> None:
    arguments = {"encoders": [encoder], "directory": tmp_path / "run", **SHORT}
    first = biorel.compare(ddi, **arguments)
    table = tmp_path / "run" / "trials.jsonl"
    lines = table.read_bytes().splitlines(keepends=True)
    table.write_bytes(lines[0] + lines[1][:-5])
    with pytest.warns(UserWarning, match="last line is incomplete"):
        again = biorel.compare(ddi, **arguments)
    pd.testing.assert_frame_equal(again.trials[SAME], first.trials[SAME])
    assert table.read_bytes().count(b"\n") == 2
    for bad in (b"{]\n", b"[]\n", b"[" * 100_000 + b"\n"):
        table.write_bytes(bad + lines[1])
        with pytest.raises(biorel.ConfigError, match=r"trials\.jsonl:1 is corrupt"):
            biorel.compare(ddi, **arguments)
    for bad in (b"[]", b"null", b"{", b"[" * 100_000):
        (tmp_path / "run" / "plan.json").write_bytes(bad)
        with pytest.raises(biorel.ConfigError, match=r"plan\.json is corrupt"):
            biorel.compare(ddi, **arguments)


def test_two_runs_do_not_share_a_directory(ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with (
        exclusive_lock(tmp_path / "run" / "lock", tmp_path),
        pytest.raises(biorel.ConfigError, match="another run is working"),
    ):
        biorel.compare(ddi, encoders=[encoder], directory=tmp_path / "run", **SHORT)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"heads": []}, "heads"),
        ({"heads": "cls"}, "heads: must be a list"),
        ({"heads": ["cls", "cnn"]}, "cnn"),
        ({"encoders": ["minilm", "minilm"]}, "appears twice"),
        ({"encoders": ["bertie"]}, "bertie"),
        ({"seeds": [-1]}, "seed"),
        ({"folds": "given"}, "states no folds"),
        ({"folds": 1}, "folds"),
        ({"head": "cls"}, "head: cannot be set here"),
        ({"callbacks": [biorel.Callback()]}, "callbacks: cannot be set here"),
        ({"dev": "dev", "folds": 3}, "dev: cannot be set here"),
        ({"dev": "development"}, "development"),
        ({"patience": 2}, "patience: needs held-out data"),
        ({"dropout": 2.0}, "dropout"),
    ],
)
def test_invalid_settings_are_errors_before_any_training(
    ddi: biorel.Corpus, tmp_path: Path, settings: dict[str, object], words: str
) -> None:
    with pytest.raises(biorel.ConfigError, match=words):
        biorel.compare(ddi, directory=tmp_path / "run", **{**SHORT, **settings})
    assert not (tmp_path / "run").exists()


def test_folds_by_instance_warn(encoder: biorel.Encoder, tmp_path: Path) -> None:
    corpus, settings = biorel.load_sample("aimed"), {"folds": 2, "by": "instance", "heads": ["cls"], **SHORT}
    with pytest.warns(UserWarning, match='by="instance" leaks'):
        result = biorel.compare(corpus, encoders=[encoder], directory=tmp_path / "run", **settings)
    assert "2 folds by instance" in result.results.protocol


def test_a_corpus_without_splits_needs_folds(encoder: biorel.Encoder, tmp_path: Path) -> None:
    with pytest.raises(biorel.ConfigError, match="give a number of folds"):
        biorel.compare(biorel.load_sample("aimed"), encoders=[encoder], directory=tmp_path / "run", **SHORT)


def test_the_command(tmp_path: Path, encoder: biorel.Encoder, capsys: pytest.CaptureFixture[str]) -> None:
    sample = str(biorel.sample_path("ddi"))
    options = ["--encoder", encoder.name, "--head", "cls", "--head", "lstm", "--max-length", "96", "--max-steps", "1"]
    arguments = ["compare", "ddi", sample, *options, "--no-progress", "--directory", str(tmp_path / "run")]
    assert main([*arguments, "--format", "jsonl"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["head"] for row in rows] == ["cls", "lstm"]
    assert main([*arguments, "--paired", "cls", "lstm"]) == 0
    assert "McNemar" in capsys.readouterr().out


def test_presets(ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path) -> None:
    few: dict[str, Any] = {"heads": ["cls"], "encoders": [encoder], "max_steps": 1, "max_length": 96, "progress": False}
    standard = biorel.compare(ddi, directory=tmp_path / "standard", preset="standard", batch_size=4, **few)
    chosen = {"learning_rate": 1e-4, "epochs": 3, "bias_correction": True, "negative_ratio": None}
    assert {name: standard.settings[name] for name in chosen} == chosen
    assert (standard.settings["batch_size"], standard.settings["max_steps"]) == (4, 1)
    paper = biorel.compare(ddi, directory=tmp_path / "paper", preset="paper", **few)
    none = biorel.compare(ddi, directory=tmp_path / "none", **few)
    assert paper.settings == none.settings
    wrong: Any = "best"
    with pytest.raises(biorel.ConfigError, match="preset: must be one of paper, standard, one-pass, quick, not 'best'"):
        biorel.compare(ddi, directory=tmp_path / "wrong", preset=wrong, **few)
    own: Any = "one-pass"
    with pytest.raises(biorel.ConfigError, match="preset: `one-pass` has a head of its own; make it a variant"):
        biorel.compare(ddi, directory=tmp_path / "wrong", preset=own, **few)
    variants = {"pairs": {}, "one-pass": {"preset": "one-pass", "max_length": 96, "dropout": 0.0}}
    both = biorel.compare(ddi, directory=tmp_path / "both", preset="standard", variants=variants, **few)
    assert both.trials[["variant", "head"]].values.tolist() == [["pairs", "cls"], ["one-pass", "entity-attention"]]
    changes = json.loads((tmp_path / "both" / "plan.json").read_text())["variants"]["one-pass"]
    expected = {"marking": "levitated", "epochs": 10, "dropout": 0.0, "head": "entity-attention"}
    assert changes == expected


def test_a_preset_of_a_training(ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path) -> None:
    """Settings that are given override those of the preset, and all others are the preset's."""
    few: dict[str, Any] = {"max_steps": 1, "max_length": 96, "progress": False}
    run = biorel.finetune(ddi, encoder, preset="one-pass", learning_rate=3e-5, **few)
    expected = {"marking": "levitated", "epochs": 10, "learning_rate": 3e-5, "bias_correction": True, "max_length": 96}
    assert {name: run.settings[name] for name in expected} == expected
    assert run.model.head == "entity-attention"
    assert biorel.finetune(ddi, encoder, preset="one-pass", head="entity", **few).model.head == "entity"
    validation = biorel.cross_validate(ddi, encoder, preset="one-pass", folds=2, **few)
    assert {name: validation.settings[name] for name in ("head", "marking")} == {
        "head": "entity-attention",
        "marking": "levitated",
    }
    with pytest.raises(biorel.ConfigError, match="preset: must be one of paper"):
        biorel.finetune(ddi, encoder, preset="best", **few)  # type: ignore[arg-type]
    sample = ["finetune", "ddi", str(biorel.sample_path("ddi")), "--encoder", encoder.name, "--no-progress"]
    options = ["--preset", "one-pass", "--max-steps", "1", "--max-length", "96", "--epochs", "2"]
    assert main([*sample, *options, "--output", str(tmp_path / "model")]) == 0
    trained = biorel.load(tmp_path / "model")
    assert (trained.head, trained.marking, trained.card["training"]["epochs"]) == ("entity-attention", "levitated", 2)
    assert trained.card["training"]["learning_rate"] == 1e-4


def test_a_preset_on_the_command_line(tmp_path: Path, encoder: biorel.Encoder) -> None:
    corpus = ["compare", "ddi", str(biorel.sample_path("ddi")), "--encoder", encoder.name, "--head", "cls"]
    few = ["--max-steps", "1", "--max-length", "96", "--no-progress", "--directory", str(tmp_path / "run")]
    assert main([*corpus, *few, "--preset", "standard", "--learning-rate", "3e-5"]) == 0
    settings = json.loads((tmp_path / "run" / "plan.json").read_text())["settings"]
    assert (settings["learning_rate"], settings["epochs"], settings["bias_correction"]) == (3e-5, 3, True)


def test_models_are_saved_on_request(ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path) -> None:
    grid: dict[str, Any] = {"encoders": [encoder], "max_steps": 1, "max_length": 96, "progress": False}
    first = biorel.compare(ddi, directory=tmp_path, heads=["cls", "attention"], **grid)
    before = first.trials.drop(columns="seconds")
    with pytest.raises(biorel.ConfigError, match="was not saved; call compare with save_models=True"):
        first.model("attention")
    # Only trials that finished without saving their model are repeated.
    lines = (tmp_path / "trials.jsonl").read_text().count("\n")
    saved = biorel.compare(ddi, directory=tmp_path, heads=["cls", "attention"], save_models=["attention"], **grid)
    assert (tmp_path / "trials.jsonl").read_text().count("\n") == lines + 1
    pd.testing.assert_frame_equal(saved.trials.drop(columns="seconds"), before)
    model = saved.model("attention")
    pd.testing.assert_frame_equal(
        model.predictions(ddi)[["id", "predicted"]], saved.predictions("attention")[["id", "predicted"]]
    )
    words = saved.attention()
    pd.testing.assert_frame_equal(words.drop(columns="fold"), model.attention(ddi))
    assert words.attrs["negative"] == "false"
    assert set(saved.mask_words("attention", related=False, limit=2)["ranking"]) >= {"attention", "random"}
    with pytest.raises(biorel.ConfigError, match="cls seed 1 was not saved"):
        saved.model("cls")
    again = biorel.compare(ddi, directory=tmp_path, heads=["cls", "attention"], save_models=["attention"], **grid)
    assert (tmp_path / "trials.jsonl").read_text().count("\n") == lines + 1
    assert again.model("attention").head == "attention"
    with pytest.raises(biorel.ConfigError, match="`lstm` is not one of the heads"):
        biorel.compare(ddi, directory=tmp_path, heads=["cls"], save_models=["lstm"], **grid)


def test_attention_over_folds(encoder: biorel.Encoder, tmp_path: Path) -> None:
    aimed = biorel.load_sample("aimed")
    grid: dict[str, Any] = {"encoders": [encoder], "max_steps": 1, "max_length": 96, "progress": False}
    result = biorel.compare(aimed, directory=tmp_path, heads=["attention"], folds=2, save_models=True, **grid)
    words = result.attention()
    assert sorted(words["fold"].unique()) == [0, 1]
    assert set(words["instance"]) == set(result.predictions("attention")["id"])
    assert words["instance"].nunique() == len(aimed.instances(aimed.splits[0]))
    document = words["document"].iloc[-1]
    some = result.attention(documents=[document, "unknown"])
    pd.testing.assert_frame_equal(some, words[words["document"] == document].reset_index(drop=True))
    with pytest.raises(biorel.ConfigError, match="documents: none of them"):
        result.attention(documents=["unknown"])
    with pytest.raises(biorel.ConfigError, match="name one fold"):
        result.model("attention")
    assert result.model("attention", fold=1).labels == aimed.labels


def test_concurrent_trials_have_the_same_results(ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path) -> None:
    grid: dict[str, Any] = {"heads": ["cls", "lstm", "attention"], "encoders": [encoder], "save_models": True}
    grid |= {"max_length": 96, "max_steps": 3, "learning_rate": 1e-3, "progress": False}
    sequential = biorel.compare(ddi, directory=tmp_path / "sequential", **grid)
    for jobs in (2, 5):
        concurrent = biorel.compare(ddi, directory=tmp_path / str(jobs), jobs=jobs, **grid)
        pd.testing.assert_frame_equal(concurrent.results, sequential.results, check_exact=True)
        for head in grid["heads"]:
            pd.testing.assert_frame_equal(concurrent.predictions(head), sequential.predictions(head), check_exact=True)
            assert concurrent.model(head).hash == sequential.model(head).hash


def test_a_failure_does_not_stop_concurrent_trials(ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path) -> None:
    grid: dict[str, Any] = {"encoders": [encoder], "seeds": [1, 2], "max_length": 10, "progress": False}
    result = biorel.compare(ddi, directory=tmp_path / "a", jobs=2, max_steps=1, too_long="error", **grid)
    assert result.trials["status"].tolist() == ["failed"] * 4
    with pytest.raises(biorel.CorpusError):
        biorel.cross_validate(
            ddi, encoder, folds=3, jobs=2, max_steps=1, max_length=10, too_long="error", progress=False
        )


def test_errors_of_the_operating_system_stop_all_trials(
    ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(trial, "run_trial", full)
    with pytest.raises(OSError, match="No space left"):
        biorel.compare(ddi, directory=tmp_path / "a", encoders=[encoder], jobs=2, progress=False)


@pytest.mark.parametrize(("field", "value"), [("jobs", 0), ("jobs", 1.5), ("engine", "slurm")])
def test_a_wrong_engine_or_number_of_jobs_is_refused(
    ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path, field: str, value: Any
) -> None:
    with pytest.raises(biorel.ConfigError, match=f"{field}: must be") as caught:
        biorel.compare(ddi, directory=tmp_path / "a", encoders=[encoder], **{field: value})
    assert caught.value.field == field
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("field", "value"), [("seeds", 1), ("seeds", []), ("seeds", np.array(1)), ("heads", "cls"), ("encoders", Path("a"))]
)
def test_an_axis_of_the_grid_must_be_a_list(ddi: biorel.Corpus, tmp_path: Path, field: str, value: Any) -> None:
    with pytest.raises(biorel.ConfigError, match=f"{field}: must be a list with at least one entry, not") as caught:
        biorel.compare(ddi, directory=tmp_path / "a", **{field: value})
    assert caught.value.field == field
    assert not (tmp_path / "a").exists()


def test_numbers_of_numpy_are_the_same_trials(
    ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(**given: Any) -> biorel.Comparison:
        return biorel.compare(ddi, directory=tmp_path, encoders=[encoder], max_length=96, progress=False, **given)

    first = run(heads=["cls"], seeds=[1, 2], max_steps=1, variants={"a": {"head_dropout": 0.25}}, folds=2, fold_seed=3)
    files = {path.name for path in (tmp_path / "predictions").iterdir()}
    plan = (tmp_path / "plan.json").read_text()
    monkeypatch.setattr(trial, "run_trial", None)  # nothing is trained again
    again = run(
        heads=np.array(["cls"]),
        seeds=np.array([1, 2]),
        max_steps=np.int64(1),
        variants={"a": {"head_dropout": np.float64(0.25)}},
        folds=np.int64(2),
        fold_seed=np.int32(3),
    )
    pd.testing.assert_frame_equal(again.trials, first.trials)
    assert {path.name for path in (tmp_path / "predictions").iterdir()} == files
    assert (tmp_path / "plan.json").read_text() == plan
    assert run(
        seeds=pd.Series([2]), heads=("cls",), max_steps=1, variants={"a": {"head_dropout": 0.25}}, folds=2, fold_seed=3
    ).trials["seed"].tolist() == [2, 2]


CONCURRENT = """
import signal, sys, biorel
signal.signal(signal.SIGINT, signal.default_int_handler)
encoder, directory, steps = sys.argv[1:]
biorel.compare(
    biorel.load_sample("ddi"), directory=directory, heads=["cls", "attention"], encoders=[encoder], jobs=2,
    max_steps=int(steps), max_length=96, save_steps=200, progress=False,
)
"""


def test_ctrl_c_stops_concurrent_trials_and_keeps_their_checkpoints(tmp_path: Path) -> None:
    encoder, directory = write_encoder(tmp_path / "encoder"), tmp_path / "run"
    process = start_python(CONCURRENT, encoder, directory, "100000", stderr=subprocess.PIPE)
    checkpoints = directory / "checkpoints"
    wait_until(lambda: len(list(checkpoints.glob("*.checkpoint"))) == 2, process)
    # Both trials compute: the interrupt, not the 200th step, writes the checkpoints that are looked for below.
    for checkpoint in checkpoints.glob("*.checkpoint"):
        checkpoint.unlink()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=600)
    assert b"KeyboardInterrupt" in errors
    assert process.returncode != 0
    assert len(list(checkpoints.glob("*.checkpoint"))) == 2
    assert not (directory / "trials.jsonl").exists()


def test_the_checkpoint_of_a_finished_trial_is_removed(
    ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path
) -> None:
    grid: dict[str, Any] = {
        "encoders": [encoder],
        "heads": ["cls"],
        "max_length": 96,
        "max_steps": 1,
        "progress": False,
    }
    biorel.compare(ddi, directory=tmp_path, **grid)
    [line] = (tmp_path / "trials.jsonl").read_text().splitlines()
    checkpoint = RunDirectory(tmp_path, {}).checkpoint(json.loads(line)["trial"])
    checkpoint.write_bytes(b"left by a kill just after that line")
    biorel.compare(ddi, directory=tmp_path, **grid)
    assert not checkpoint.exists()
