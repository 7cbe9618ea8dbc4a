"""Cross-validation: the folds, both conventions of the score, and resuming."""

from __future__ import annotations

import json
import random
import warnings
from pathlib import Path

import biorel
import numpy as np
import pandas as pd
import pytest
from biorel.cli.main import main
from biorel.evaluation.scores import score_pooled
from biorel.experiments import trial
from biorel.experiments.folds import folds_of, warn_without_positives

SHORT = {"max_length": 96, "max_steps": 1, "learning_rate": 1e-3, "progress": False}


@pytest.fixture(scope="module")
def aimed() -> biorel.Corpus:
    """The sample in the format of AIMed, which has no train split."""
    return biorel.load_sample("aimed")


@pytest.fixture(scope="module")
def validation(aimed: biorel.Corpus, encoder: biorel.Encoder) -> biorel.CrossValidation:
    """Three folds of one step."""
    return biorel.cross_validate(aimed, encoder, head="cls", folds=3, **SHORT)


def table_of(sizes: list[int], folds: list[int] | None = None) -> biorel.Corpus:
    """A corpus of documents with these numbers of pairs, three pairs per sentence."""
    rows = []
    for document, size in enumerate(sizes):
        for pair in range(size):
            text = f"A{document} binds B{pair // 3}."
            start = text.index("B", 2)
            row = [f"d{document}p{pair}", f"d{document}", text, "yes" if pair % 2 else "no", 0, 2, start, start + 2]
            rows.append(row)
    columns = "id document text label entity1_start entity1_end entity2_start entity2_end".split()
    frame = pd.DataFrame(rows, columns=columns)
    if folds is not None:
        frame["fold"] = [folds[int(document[1:])] for document in frame["document"]]
    return biorel.load_corpus("table", frame, negative="no")


@pytest.mark.parametrize("by", ["document", "instance"])
def test_the_folds_count_every_gold_positive(by: str, encoder: biorel.Encoder, tmp_path: Path) -> None:
    """Three of seven gold positives cross sentence boundaries, in documents without a candidate pair."""
    for names, text in (
        ("abcd", "Aspirin raises warfarin levels."),
        ("xyz", "Aspirin came first. Then warfarin rose."),
    ):
        for name in names:
            (tmp_path / f"{name}.txt").write_text(text)
            start = text.index("warfarin")
            (tmp_path / f"{name}.ann").write_text(
                f"T1\tdrug 0 7\tAspirin\nT2\tdrug {start} {start + 8}\twarfarin\nR1\traises Arg1:T1 Arg2:T2\n"
            )
    corpus = biorel.load_corpus("brat", tmp_path)
    assert corpus.findings()["document"].tolist() == ["x", "y", "z"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # folds by instance warn of leakage
        result = biorel.cross_validate(corpus, encoder, head="cls", folds=2, by=by, **SHORT)
    pooled = result.pooled.set_index("class").loc["raises", "support"]
    assert result.folds["support"].sum() == pooled == 7
    assert "4 pairs and 3 gold positives lost before" in result.protocols["mean"]


def test_no_document_is_in_train_and_test() -> None:
    numbers = random.Random(4)
    for _ in range(40):
        sizes = [numbers.randint(1, 9) for _ in range(numbers.randint(2, 9))]
        corpus = table_of(sizes)
        k = numbers.randint(2, len(sizes))
        folds = folds_of(corpus, k, "document", numbers.randint(0, 999))
        tested: list[str] = []
        assert len(folds.numbers) == k
        for number in folds.numbers:
            part = folds.part(number)
            train, test = part.instances("train"), part.instances("test")
            assert not set(train["document"]) & set(test["document"])
            assert len(train) + len(test) == sum(sizes)
            tested += test["id"].tolist()
        assert sorted(tested) == sorted(corpus.instances(corpus.splits[0])["id"])


def test_folds_by_instance_split_sentences_and_warn(encoder: biorel.Encoder) -> None:
    corpus = table_of([9, 9, 9, 9])
    with pytest.warns(UserWarning, match='by="instance" leaks: in a fold up to 4 documents'):
        result = biorel.cross_validate(corpus, encoder, folds=2, by="instance", **SHORT)
    assert sorted(result.predictions["id"]) == sorted(corpus.instances(corpus.splits[0])["id"])
    assert result.folds["test"].tolist() == [18, 18]
    assert (result.leakage[["documents", "sentences"]] > 0).all(axis=None)
    assert set(result.leaks["kind"]) >= {"document", "sentence"}
    assert "2 folds by instance" in result.protocols["mean"]


def test_given_folds(encoder: biorel.Encoder) -> None:
    corpus = table_of([4, 5, 6, 7], folds=[7, 3, 7, 3])
    result = biorel.cross_validate(corpus, encoder, **SHORT)
    assert result.by == "given"
    assert result.folds[["fold", "test"]].to_numpy().tolist() == [[3, 12], [7, 10]]
    assert "2 folds as the corpus gives them, pooled, 22 pairs" in result.pooled.protocol
    with pytest.raises(biorel.ConfigError, match="2 folds, not 3"):
        biorel.cross_validate(corpus, encoder, folds=3, **SHORT)
    chosen = biorel.cross_validate(corpus, encoder, folds=3, by="document", **SHORT)
    assert len(chosen.folds) == 3
    named = biorel.cross_validate(corpus, encoder, folds="given", **SHORT)
    assert named.by == "given"
    pd.testing.assert_frame_equal(named.predictions, result.predictions)


def test_folds_without_a_positive_pair_are_named(encoder: biorel.Encoder, tmp_path: Path) -> None:
    """Documents of one pair have no positive one."""
    corpus = table_of([1, 5, 1, 6], folds=[2, 5, 7, 5])
    words = (
        r"no positive pair is tested in 2, 7, so F1 is 0 .* use the pooled scores \(`\.pooled`\); or give fewer folds$"
    )
    with pytest.warns(UserWarning, match=words):
        result = biorel.cross_validate(corpus, encoder, head="cls", **SHORT)
    folds = result.folds.set_index("fold")
    assert folds["support"].tolist() == [0, 5, 0]
    assert folds.loc[[2, 7], "f1"].tolist() == [0.0, 0.0]
    assert result.scores.set_index("over").loc["mean", "f1"] == pytest.approx(folds["f1"].mean())
    with pytest.warns(UserWarning, match=r"tested in 2, 7, so F1 is 0 .* \(`pooled_f1`\)"):
        biorel.compare(corpus, encoders=[encoder], heads=["cls"], folds="given", directory=tmp_path, **SHORT)
    with pytest.warns(UserWarning, match=r'fewer folds, or by="instance" \(which leaks\)$'):
        biorel.cross_validate(table_of([1, 5]), encoder, head="cls", folds=2, by="document", **SHORT)
    parts = corpus.divide({"small": ["d0", "d2"], "large": ["d1", "d3"]})
    with pytest.warns(UserWarning, match=r"tested in small, so F1 is 0 .* \(there\)$"):
        warn_without_positives(folds_of(parts, None, "split", 1), "there")


def test_numbers_of_numpy_are_the_same_experiment(
    aimed: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"folds": 2, "seed": 3, "fold_seed": 4, "threshold": 0.5, "jobs": 1, "learning_rate": 1e-3, "epochs": 2}
    short = {"max_length": 96, "max_steps": 1, "head": "cls", "progress": False, "directory": tmp_path / "cv"}
    weights = {"negative": 1.0, "positive": 2.5}
    first = biorel.cross_validate(aimed, encoder, **given, class_weights=weights, **short)
    plan = (tmp_path / "cv" / "plan.json").read_text()
    monkeypatch.setattr(trial, "run_trial", None)  # nothing is trained again
    numbers = {name: np.array([value])[0] for name, value in given.items()}
    again = biorel.cross_validate(aimed, encoder, **numbers, class_weights=pd.Series(weights), **short)
    pd.testing.assert_frame_equal(again.folds, first.folds)
    assert again.settings == first.settings
    assert (tmp_path / "cv" / "plan.json").read_text() == plan
    monkeypatch.undo()
    biorel.cross_validate(
        aimed, encoder, folds=2, learning_rate=np.float32(1e-3), **{**short, "directory": tmp_path / "b"}
    )


def test_mean_and_pooled(validation: biorel.CrossValidation, aimed: biorel.Corpus) -> None:
    folds = validation.folds
    assert folds["fold"].tolist() == [0, 1, 2]
    assert folds["test"].sum() == len(validation.predictions) == 302
    assert (folds["train"] + folds["test"] == 302).all()
    f1 = validation.scores.set_index("over")["f1"]
    assert f1["mean"] == pytest.approx(folds["f1"].mean())
    assert f1["sd"] == pytest.approx((((folds["f1"] - f1["mean"]) ** 2).sum() / 2) ** 0.5)
    assert validation.scores.protocol == "F1 of the positive class `positive`, 3 folds by document, 302 pairs"
    positive = validation.predictions["gold"] == "positive"
    predicted = validation.predictions["predicted"] == "positive"
    assert folds["support"].sum() == positive.sum()
    right = (positive & predicted).sum()
    pooled = validation.pooled.set_index("class").loc["positive"]
    assert f1["pooled"] == pooled["f1"] == pytest.approx(2 * right / (positive.sum() + predicted.sum()))
    for fold, group in validation.predictions.groupby("fold"):
        part = score_pooled(aimed, group, "a fold").set_index("class").loc["positive", "f1"]
        assert part == pytest.approx(folds.set_index("fold").loc[fold, "f1"])
    assert validation.protocols == {
        "mean": "F1 of the positive class `positive`, mean of 3 folds by document, 302 pairs",
        "pooled": "F1 of the positive class `positive`, 3 folds by document, pooled, 302 pairs",
    }
    assert validation.leakage["documents"].tolist() == [0, 0, 0]


def test_a_stopped_cross_validation_resumes(
    aimed: biorel.Corpus,
    encoder: biorel.Encoder,
    validation: biorel.CrossValidation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[int] = []
    real = trial.run_trial

    def stopped(*arguments: object) -> object:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(1)
        return real(*arguments)  # type: ignore[arg-type]

    def validate() -> biorel.CrossValidation:
        return biorel.cross_validate(aimed, encoder, head="cls", folds=3, directory=tmp_path / "cv", **SHORT)

    monkeypatch.setattr(trial, "run_trial", stopped)
    with pytest.raises(KeyboardInterrupt):
        validate()
    assert len((tmp_path / "cv" / "trials.jsonl").read_text().splitlines()) == 2
    done.clear()
    result = validate()
    assert len(done) == 1
    pd.testing.assert_frame_equal(result.folds.drop(columns="seconds"), validation.folds.drop(columns="seconds"))
    pd.testing.assert_frame_equal(result.predictions, validation.predictions)
    pd.testing.assert_frame_equal(pd.DataFrame(result.pooled), pd.DataFrame(validation.pooled))
    assert pd.read_csv(tmp_path / "cv" / "folds.tsv", sep="\t")["fold"].tolist() == [0, 1, 2]
    with pytest.raises(biorel.ConfigError, match="max_steps 1, not 2"):
        biorel.cross_validate(
            aimed, encoder, head="cls", folds=3, directory=tmp_path / "cv", **{**SHORT, "max_steps": 2}
        )
    with pytest.raises(biorel.ConfigError, match="kind 'cross-validation', not 'comparison'"):
        biorel.compare(aimed, encoders=[encoder], folds=3, directory=tmp_path / "cv", **SHORT)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"folds": 1}, "folds"),
        ({"folds": 25}, "number of documents \\(24\\)"),
        ({"folds": -1}, 'folds: must be a whole number from 2, or "given", not -1'),
        ({"folds": "given"}, "states no folds"),
        ({"folds": "given", "by": "document"}, "leave one of them out"),
        ({"folds": "three"}, "folds: must be a whole number from 2"),
        ({"fold_seed": -1}, "fold_seed: must be a whole number from 0"),
        ({"seed": -1}, "seed"),
        ({"by": "sentence"}, "document, given, instance"),
        ({"by": "given"}, "states no folds"),
        ({"threshold": 0.0}, "threshold"),
        ({"train": "all"}, "train: cannot be set here"),
        ({"dev": "dev"}, "dev: cannot be set here"),
        ({"checkpoint": "x"}, "directory"),
        ({"epochs": 0}, "epochs"),
        ({"head": "cnn"}, "cnn"),
    ],
)
def test_invalid_settings_are_named(
    aimed: biorel.Corpus, encoder: biorel.Encoder, settings: dict[str, object], words: str
) -> None:
    with pytest.raises(biorel.ConfigError, match=words):
        biorel.cross_validate(aimed, encoder, **{**SHORT, **settings})


def test_an_unknown_setting_is_a_type_error(aimed: biorel.Corpus, encoder: biorel.Encoder) -> None:
    with pytest.raises(TypeError, match="learning_rat"):
        biorel.cross_validate(aimed, encoder, learning_rat=1e-5)


def test_a_folder_with_other_files_is_refused(aimed: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(biorel.ConfigError, match=r"thesis\.tex"):
        biorel.cross_validate(aimed, encoder, directory=tmp_path, **SHORT)


def test_the_published_folds_of_aimed(corpora: Path) -> None:
    corpus = biorel.load_corpus("aimed", corpora / "aimed" / "aimed_pairs.tsv")
    folds = folds_of(corpus, None, None, 1)
    assert folds.by == "given"
    positives = [105, 97, 102, 102, 89, 124, 151, 102, 59, 69]
    negatives = [516, 449, 491, 485, 434, 475, 454, 614, 432, 484]
    for index in range(10):
        for part in (folds.part(index), corpus.fold(index)):
            test = part.statistics().set_index("split").loc["test"]
            assert (test["positive"], test["negative"]) == (positives[index], negatives[index])


def test_a_fold_equals_a_finetuning(
    validation: biorel.CrossValidation, aimed: biorel.Corpus, encoder: biorel.Encoder
) -> None:
    expected = biorel.finetune(aimed.fold(1, folds=3), encoder, head="cls", **SHORT).predictions()
    found = validation.predictions.query("fold == 1").drop(columns="fold").reset_index(drop=True)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)


def test_one_fold_by_instance_warns_too(aimed: biorel.Corpus) -> None:
    with pytest.warns(UserWarning, match="sentences are in both train and test"):
        corpus = aimed.fold(0, folds=3, by="instance")
    assert set(corpus.leakage()["kind"]) >= {"document", "sentence"}
    assert "document" not in set(aimed.fold(0, folds=3).leakage()["kind"])


def test_the_command(tmp_path: Path, encoder: biorel.Encoder, capsys: pytest.CaptureFixture[str]) -> None:
    sample = str(biorel.sample_path("aimed"))
    options = ["--encoder", encoder.name, "--max-length", "96", "--max-steps", "1", "--no-progress", "--folds", "2"]
    outputs = ["--directory", str(tmp_path / "cv"), "--leakage", str(tmp_path / "leaks.csv")]
    arguments = ["cross-validate", "aimed", sample, *options, *outputs]
    assert main([*arguments, "--format", "jsonl"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["over"] for row in rows] == ["mean", "sd", "pooled"]
    assert "document" not in set(pd.read_csv(tmp_path / "leaks.csv")["kind"])
    assert main(arguments) == 0
    assert "near_duplicates" in capsys.readouterr().out
