"""Variants of a comparison: an axis of the grid, the plan, paired tests, resuming after a kill."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import biorel
import pandas as pd
import pytest
from biorel.cli.main import main
from biorel.evaluation.paired_tests import Side, compare_decisions
from child_process import kill_after, start_python
from tiny_bert import write_encoder

SHORT: dict[str, Any] = {"max_length": 96, "max_steps": 2, "learning_rate": 1e-3, "progress": False}
VARIANTS: dict[str, dict[str, Any]] = {
    "typed": {},
    "fast": {"learning_rate": 5e-3, "max_steps": 3},
    "one-pass": {"marking": "levitated", "head": "entity-attention"},
}
SAME = ["encoder", "head", "variant", "seed", "fold", "status", "precision", "recall", "f1", "test", "steps"]


@pytest.fixture(scope="module")
def comparison(
    ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path_factory: pytest.TempPathFactory
) -> biorel.Comparison:
    """Two variants with the common head, one with its own, two seeds, models saved of one variant."""
    directory = tmp_path_factory.mktemp("variants") / "run"
    return biorel.compare(
        ddi, encoders=[encoder], heads=["cls"], seeds=[1, 2], variants=VARIANTS, directory=directory,
        save_models=["one-pass"], **SHORT,
    )  # fmt: skip


def test_variants_are_an_axis_of_the_grid(comparison: biorel.Comparison) -> None:
    trials = comparison.trials
    assert (trials["status"] == "finished").all()
    assert trials[["head", "variant", "seed"]].to_numpy().tolist() == [
        [head, variant, seed]
        for seed in (1, 2)
        for variant, head in (("typed", "cls"), ("fast", "cls"), ("one-pass", "entity-attention"))
    ]
    assert trials["steps"].tolist() == [2, 3, 2] * 2
    results = comparison.results
    assert results[["head", "variant", "trials"]].to_numpy().tolist() == [
        ["cls", "typed", 2],
        ["cls", "fast", 2],
        ["entity-attention", "one-pass", 2],
    ]
    for row in results.itertuples():
        assert row.f1 == pytest.approx(trials.loc[trials["variant"] == row.variant, "f1"].mean())
    assert comparison.variants == {
        "typed": {},
        "fast": {"learning_rate": 5e-3, "max_steps": 3},
        "one-pass": {"marking": "levitated", "head": "entity-attention"},
    }
    assert comparison.settings["learning_rate"] == 1e-3


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_a_trial_equals_a_finetuning_with_its_settings(
    comparison: biorel.Comparison, ddi: biorel.Corpus, encoder: biorel.Encoder, variant: str
) -> None:
    run = biorel.finetune(ddi, encoder, **{"head": "cls", **SHORT, **VARIANTS[variant]}, seed=2)
    stored, expected = comparison.predictions(variant, seed=2), run.predictions()
    for column in ("id", *(f"p_{label}" for label in ddi.labels)):
        assert stored[column].tolist() == expected[column].tolist()


def test_a_head_that_does_not_fit_its_marking_is_refused_before_training(
    tmp_path: Path, ddi: biorel.Corpus, encoder: biorel.Encoder
) -> None:
    variants = {"typed": {}, "one-pass": {"marking": "levitated"}}
    with pytest.raises(biorel.ConfigError, match=r"variants: `one-pass`: head: `cls` reads the text alone"):
        biorel.compare(ddi, directory=tmp_path / "runs", heads=["cls"], encoders=[encoder], variants=variants)
    assert not (tmp_path / "runs").exists()
    with pytest.raises(biorel.ConfigError, match="head: `attention` reads the text alone"):
        biorel.cross_validate(ddi, encoder, folds=2, marking="levitated")


def test_models_and_attention_of_a_variant(comparison: biorel.Comparison, ddi: biorel.Corpus) -> None:
    model = comparison.model("one-pass", seed=1)
    assert model.head == "entity-attention"
    assert (
        model.predictions(ddi)["predicted"].tolist() == comparison.predictions("one-pass", seed=1)["predicted"].tolist()
    )
    words = comparison.attention("entity-attention", variant="one-pass", seed=1)
    untrained = comparison.attention("one-pass", seed=1, untrained=True)
    # The untrained model must have the variant's marking: the same words, with other weights.
    assert untrained["word"].tolist() == words["word"].tolist()
    assert untrained["weight"].tolist() != words["weight"].tolist()
    with pytest.raises(biorel.ConfigError, match="cls typed seed 1 was not saved"):
        comparison.model("cls", variant="typed", seed=1)
    with pytest.raises(biorel.ConfigError, match=r"could be several; give \(encoder, head, variant\)"):
        comparison.model("cls", seed=1)


def test_two_variants_are_paired_by_instance(comparison: biorel.Comparison) -> None:
    table = comparison.paired("typed", "one-pass", samples=100)
    assert table["test"].tolist() == ["bootstrap", "McNemar by document", "McNemar by document", "sign test"]
    sides = [comparison.predictions(name, seed=1).set_index("id") for name in ("typed", "one-pass")]
    sides[1] = sides[1].loc[sides[0].index]
    assert sides[0]["document"].tolist() == sides[1]["document"].tolist()
    right = [(side["gold"] == side["predicted"]).astype(int) for side in sides]
    surplus = (right[0] - right[1]).groupby(sides[0]["document"]).sum()
    assert (table["first"][1], table["second"][1]) == ((surplus > 0).sum(), (surplus < 0).sum())
    assert "cls typed against" in table.protocol
    assert "entity-attention one-pass" in table.protocol
    named = comparison.paired("entity-attention", ("cls", "typed"), samples=100)
    assert named["difference"].tolist() == (-table["difference"]).tolist()
    for wrong, words in (("cls", "could be several"), ("slow", "variants typed, fast, one-pass")):
        with pytest.raises(biorel.ConfigError, match=words):
            comparison.paired(wrong, "one-pass")


def test_instances_in_another_order_are_aligned(ddi: biorel.Corpus, comparison: biorel.Comparison) -> None:
    """Each side has its own order of instances; the tests are over the same instances."""
    tables = [comparison.predictions(name, seed=1) for name in ("typed", "one-pass")]
    first, second = (Side(table, [table["predicted"].tolist()], [0.0], by_fold=False) for table in tables)
    shuffled = tables[1].sample(frac=1, random_state=3)
    other = Side(shuffled, [shuffled["predicted"].tolist()], [0.0], by_fold=False)
    options: dict[str, Any] = {"unit": "document", "samples": 100, "confidence_level": 0.95, "seed": 1}
    expected = compare_decisions(ddi, first, second, [1], **options)
    pd.testing.assert_frame_equal(compare_decisions(ddi, first, other, [1], **options), expected)
    unaligned = second._replace(predicted=other.predicted)
    assert compare_decisions(ddi, first, unaligned, [1], **options)["second"][0] != expected["second"][0]
    fewer = Side(shuffled.iloc[1:], [shuffled["predicted"].tolist()[1:]], [0.0], by_fold=False)
    with pytest.raises(biorel.ConfigError, match="not evaluated on the same instances"):
        compare_decisions(ddi, first, fewer, [1], **options)


def test_a_variant_that_drops_instances_has_its_own_protocol(
    ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path
) -> None:
    variants = {"all": {}, "short": {"max_length": 14, "too_long": "drop"}}
    grid: dict[str, Any] = {"encoders": [encoder], "heads": ["cls"], **SHORT, "max_steps": 1}
    with pytest.warns(UserWarning, match="were cut"), pytest.warns(UserWarning, match="were dropped"):
        result = biorel.compare(ddi, variants=variants, directory=tmp_path, **grid)
    dropped = result.predictions("short")["predicted"].isna()
    assert 0 < dropped.sum() < len(dropped) == 142
    for protocol in (result.results.protocol, result.paired("all", "short", samples=20).protocol):
        assert "cls all: micro-F1 over the 4 positive classes, test, 142 pairs; " in protocol
        assert f"cls short: micro-F1 over the 4 positive classes, test, {142 - dropped.sum()} pairs and " in protocol


def test_a_new_variant_extends_and_a_changed_one_is_refused(
    ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path
) -> None:
    grid: dict[str, Any] = {"encoders": [encoder], "heads": ["cls"], "directory": tmp_path, **SHORT, "max_steps": 1}
    lines = tmp_path / "trials.jsonl"
    biorel.compare(ddi, **grid)
    plain = json.loads(lines.read_text())
    assert "variant" not in plain
    assert "variant" not in pd.read_csv(tmp_path / "trials.tsv", sep="\t")
    # A variant extends a comparison without variants, and others extend it, also without naming the earlier ones.
    biorel.compare(ddi, variants={"a": {"learning_rate": 2e-3}}, **grid)
    biorel.compare(ddi, variants={"b": {"marking": "markers"}}, **grid)
    assert set(json.loads((tmp_path / "plan.json").read_text())["variants"]) == {"a", "b"}
    assert lines.read_text().count("\n") == 3
    both = {"b": {"marking": "markers"}, "a": {"learning_rate": 2e-3, "max_length": 96}}
    again = biorel.compare(ddi, variants=both, **grid)
    assert again.trials["variant"].tolist() == ["b", "a"]
    assert biorel.compare(ddi, **grid).trials["f1"].tolist() == [plain["f1"]]
    assert lines.read_text().count("\n") == 3
    before = (tmp_path / "plan.json").read_bytes()
    for changed, words in (
        ({"a": {"learning_rate": 3e-3}}, "learning_rate of variant a 0.002, not 0.003"),
        ({"c": {}, "b": {}}, "marking of variant b 'markers', not None"),
        ({"a": {"learning_rate": 2e-3, "head": "lstm"}}, "head of variant a None, not 'lstm'"),
    ):
        with pytest.raises(biorel.ConfigError, match=words):
            biorel.compare(ddi, variants=changed, **grid)
    assert (tmp_path / "plan.json").read_bytes() == before


@pytest.mark.parametrize(
    ("variants", "words"),
    [
        ({}, "must be a mapping"),
        (["a"], "must be a mapping"),
        ({"a b": {}}, "'a b' is not a name"),
        ({"cls": {}}, "`cls` is the name of a head"),
        ({"a": {}, "A": {}}, "`a` and `A` would share files"),
        ({"a": ["cls"]}, "`a` must be a mapping of settings"),
        ({"a": {"learning_rates": 1}}, "`a`: `learning_rates` is not a setting"),
        ({"a": {"learning_rate": -1.0}}, "`a`: learning_rate"),
        ({"a": {"head": "cnn"}}, "`a`: .*cnn"),
        ({"a": {"seed": 3}}, "`a`: seed: cannot be set here"),
        ({"a": {"device": "cpu"}}, "`a`: device: cannot be set here"),
        ({"a": {"patience": 3}}, "`a`: patience: needs held-out data"),
        ({"a": {"dev": "development"}}, "development"),
    ],
)
def test_invalid_variants_are_errors_before_any_training(
    ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path, variants: Any, words: str
) -> None:
    with pytest.raises(biorel.ConfigError, match=words):
        biorel.compare(ddi, encoders=[encoder], variants=variants, directory=tmp_path / "run", **SHORT)
    assert not (tmp_path / "run").exists()


SCRIPT = """
import sys, biorel
biorel.compare(biorel.load_sample("aimed"), encoders=[sys.argv[1]], heads=["attention"], folds=2, directory=sys.argv[2],
               variants={"typed": {}, "one-pass": {"marking": "levitated", "head": "entity"}},
               max_length=96, max_steps=20, learning_rate=1e-3, progress=False, save_steps=2, threads=1)
"""


def test_a_killed_comparison_of_variants_resumes_to_the_same_results(tmp_path: Path) -> None:
    encoder = str(write_encoder(tmp_path / "encoder"))
    killed = tmp_path / "killed"
    delays = random.Random(5)

    def finished() -> int:
        table = killed / "trials.jsonl"
        return table.read_bytes().count(b"\n") if table.exists() else 0

    kills = 0
    for target in (1, 2):
        process = start_python(SCRIPT, encoder, killed)
        kills += kill_after(lambda: finished() >= target, process, delay=delays.uniform(0, 0.1))  # noqa: B023
    assert kills
    grid: dict[str, Any] = {"encoders": [encoder], "heads": ["attention"], "folds": 2, **SHORT, "max_steps": 20}
    grid["variants"] = {"typed": {}, "one-pass": {"marking": "levitated", "head": "entity"}}
    corpus = biorel.load_sample("aimed")
    resumed = biorel.compare(corpus, directory=killed, **grid)
    expected = biorel.compare(corpus, directory=tmp_path / "uninterrupted", **grid)
    pd.testing.assert_frame_equal(resumed.trials[SAME], expected.trials[SAME])
    pd.testing.assert_frame_equal(pd.DataFrame(resumed.results), pd.DataFrame(expected.results))
    assert resumed.results["pooled_f1"].notna().all()
    for variant in ("typed", "one-pass"):
        pd.testing.assert_frame_equal(resumed.predictions(variant), expected.predictions(variant))
    names = [json.loads(line)["trial"] for line in (killed / "trials.jsonl").read_text().splitlines()]
    assert len(names) == len(set(names)) == 4
    tests = [pd.DataFrame(run.paired("typed", "one-pass", samples=100)) for run in (resumed, expected)]
    pd.testing.assert_frame_equal(*tests)


def test_variants_of_the_command_line(
    tmp_path: Path, encoder: biorel.Encoder, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "run.toml"
    config.write_text(
        f"encoder = {encoder.name!r}\nhead = 'cls'\nmax-length = 96\nmax-steps = 1\nno-progress = true\n"
        "[variant.plain]\n[variant.one-pass]\nmarking = 'levitated'\nhead = 'entity'\nlearning-rate = 1e-3\n"
    )
    common = ["compare", "ddi", str(biorel.sample_path("ddi")), "--config", str(config)]
    assert main([*common, "--directory", str(tmp_path / "file"), "--format", "jsonl"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["head"], row["variant"]) for row in rows] == [("cls", "plain"), ("entity", "one-pass")]
    words = ["--variant", "plain", "--variant", "one-pass", "marking=levitated", "head=entity", "learning-rate=1e-3"]
    # The options are the same variants: nothing is trained again.
    assert main([*common, "--directory", str(tmp_path / "file"), *words, "--paired", "plain", "one-pass"]) == 0
    assert "McNemar" in capsys.readouterr().out
    assert (tmp_path / "file" / "trials.jsonl").read_text().count("\n") == 2
    for wrong, message in (
        (["--variant", "a", "markin=typed"], "`markin` is not a setting of finetune; did you mean `marking`?"),
        (["--variant", "a", "marking"], "`marking` is not of the form SETTING=VALUE"),
        (["--variant", "a", "epochs=few"], "epochs must be a whole number, not `few`"),
        (["--variant", "a", "bias-correction=perhaps"], "bias-correction must be true or false"),
        (["--variant", "a", "--variant", "a"], "two have the same name"),
    ):
        assert main([*common, "--directory", str(tmp_path / "other"), *wrong]) == 1
        assert message in capsys.readouterr().err
    config.write_text("variant = 'plain'")
    assert main([*common, "--directory", str(tmp_path / "other")]) == 1
    assert "variant must be a table" in capsys.readouterr().err
