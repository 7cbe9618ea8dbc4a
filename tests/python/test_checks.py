"""What `Corpus.check` finds, and what is said while a table is read."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import biorel
import pandas as pd
import pytest
from biorel.cli.main import main
from pair_table import COLUMNS, TABLE


def test_a_corpus_is_checked() -> None:
    def findings(table: pd.DataFrame, **options: Any) -> dict[str, list[str]]:
        found = biorel.load_corpus("table", table, columns=COLUMNS, **options).check()
        assert found["remedy"].str.len().min() > 0
        return {severity: rows["finding"].tolist() for severity, rows in found.groupby("severity")}

    many = pd.concat([TABLE] * 15).assign(split="train", document=range(60), entity1_type="a", entity2_type="b")
    assert findings(many) == {
        "note": [
            "the label `none` is taken to mean that there is no relation",
            "the only split is train: nothing is left to score",
        ]
    }
    few = findings(TABLE)
    assert few["warning"] == ["only 4 pairs to train on"]
    assert "the entities have no types: all are `entity`, with the tag @ENTITY$" in few["note"]
    tested = findings(many.assign(split=["train"] * 59 + ["test"], document=["d"] * 60))
    assert tested["warning"] == [
        "1 documents are also in train, such as d",
        "has no pair with a relation",
        "55 rows repeat an earlier one, such as d.s0.p1",
        "1 sentences are also in train, such as 'Aspirin was given, and warfarin.'",
    ]
    twice = findings(pd.concat([many, many[:1].assign(label="none")]))
    assert twice["warning"] == ["1 pairs have several labels, such as `effect` (0.s0.p0) and `none` (0.s0.p1)"]
    composed = many.assign(label=["é", "none", "e\u0301", "none"] * 15)
    with pytest.warns(UserWarning, match="labels that differ only in case, blanks or Unicode form"):
        assert len(findings(composed)["error"]) == 1
    typed = many.assign(entity1_type=["Gene", "Gene", "Gene ", "gene"] * 15)
    with pytest.warns(UserWarning, match="types that differ only in case or blanks: 'Gene', 'Gene ', 'gene'"):
        findings(typed)
    unnamed = findings(many.replace({"label": {"none": "a", "effect": "b"}}))
    assert unnamed["warning"] == ["no label means that there is no relation; scores count all of a, b"]
    assert findings(many, labels=["none", "effect", "x"])["warning"] == ["labels without a pair to train on: x"]
    one = findings(many.assign(label="effect"), labels=["none", "effect"])
    assert one["error"] == ["every pair has the label `effect`"]
    with pytest.raises(biorel.ConfigError, match="all 60 rows have the label `effect`"):
        findings(many.assign(label="effect"))
    other = findings(many.assign(split="a"))
    assert "no split is named train, only a" not in other["note"]
    assert "the only split is a: nothing is left to score" in other["note"]
    assert "no split is named train, only a, b" in findings(many.assign(split=["a"] * 59 + ["b"]))["note"]


def test_labels_that_differ_in_case_or_blanks() -> None:
    table = TABLE.assign(label=["effect", "none", "Effect ", "None"])
    with pytest.warns(UserWarning, match="labels that differ only in case or blanks") as warned:
        corpus = biorel.load_corpus("table", table, columns=COLUMNS)
    assert [str(one.message).split(";")[0] for one in warned] == [
        "table: labels that differ only in case or blanks: 'Effect ', 'effect'",
        "table: labels that differ only in case or blanks: 'None', 'none'",
    ]
    assert corpus.check()["severity"].tolist()[:2] == ["error", "error"]


def test_labels_that_look_like_missing_values() -> None:
    with pytest.warns(UserWarning, match="write for a missing value: 'NaN', 'n/a'; leave their rows out"):
        corpus = biorel.load_corpus("table", TABLE.assign(label=["effect", "none", "NaN", "n/a"]), columns=COLUMNS)
    assert corpus.check()["severity"].tolist().count("error") == 1


@pytest.mark.parametrize("label", ["neg", "none", "0", "False", "no relation", "unrelated"])
def test_a_negative_label_is_guessed(label: str) -> None:
    corpus = biorel.load_corpus("table", TABLE.replace({"label": {"none": label}}), columns=COLUMNS)
    assert corpus.negative == label
    assert f"the label `{label}` is taken to mean that there is no relation" in corpus.check()["finding"].tolist()
    # Nothing was guessed where it is named, also after a division and in another process.
    named = biorel.load_corpus("table", TABLE.replace({"label": {"none": label}}), columns=COLUMNS, negative=label)
    for one in (named, named.split(test=0.5), pickle.loads(pickle.dumps(named))):
        assert not one.check()["finding"].str.contains("taken to mean").any()


def test_offsets_that_cut_words() -> None:
    text = "Naïve β-warfarin enhances naïve aspirin well."
    rows = []
    for name in ("warfarin", "aspirin"):
        start = len(text[: text.index(name)].encode())
        rows.append((start, start + len(name)))
    columns = {f"entity{n}_{edge}": rows[n - 1][edge == "end"] for n in (1, 2) for edge in ("start", "end")}
    table = pd.DataFrame([{"text": text, "label": label, **columns} for label in ("none", "x")])
    with pytest.warns(UserWarning, match="4 entities start or end inside a word.*the offsets seem to count bytes"):
        corpus = biorel.load_corpus("table", table)
    assert corpus.check()[["severity", "split", "count"]].iloc[0].tolist() == ["error", "all", 4]
    assert "error" not in biorel.load_corpus("table", table, offsets="bytes").check()["severity"].tolist()
    plain = pd.DataFrame(
        {"text": "Statins help aspirin.", "label": ["none", "x"], "entity1_start": 0, "entity1_end": 6}
    )
    plain = plain.assign(entity2_start=13, entity2_end=20)
    found = biorel.load_corpus("table", plain).check()
    # Printed in full, also in notebooks.
    assert found["remedy"][0] in repr(found)
    assert found["finding"][0] in found._repr_html_()
    assert "2 entities start or end inside a word, such as `Statin` in `Statins help aspirin.`" in found["finding"][0]
    assert found["severity"][0] == "warning"
    text = text.removesuffix(".")
    end = len(text.encode())
    message = f"row 0: entity2_end {end} is outside of the text, which has 44 characters; as bytes it is `well`"
    with pytest.raises(biorel.CorpusError, match=message):
        biorel.load_corpus("table", table.assign(text=text, entity2_start=end - 4, entity2_end=end))


@pytest.mark.filterwarnings("default")  # printed, as outside of pytest
def test_the_command_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["--columns", *(f"{ours}={theirs}" for ours, theirs in COLUMNS.items())]
    TABLE.to_csv(tmp_path / "pairs.csv", index=False)
    assert main(["check", "table", str(tmp_path / "pairs.csv"), *names]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "warning: all: only 4 pairs to train on"
    assert printed[1].startswith("    add some")
    TABLE.assign(label=["x", "X", "y", "y"]).to_csv(tmp_path / "pairs.csv", index=False)
    assert main(["check", "table", str(tmp_path / "pairs.csv"), *names, "--format", "csv"]) == 1
    captured = capsys.readouterr()
    assert pd.read_csv(io.StringIO(captured.out))["severity"].tolist()[0] == "error"
    assert "error: table: 1 of these findings are errors" in captured.err
    assert main(["check", "ddi", str(biorel.sample_path("ddi"))]) == 0
    assert capsys.readouterr().err.splitlines()[-1] == "nothing was found"
