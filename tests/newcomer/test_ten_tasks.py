"""Ten tasks of a newcomer, from an installed wheel, each checked by what it prints or writes."""

from __future__ import annotations

import io
import json
import re
import time
from typing import TYPE_CHECKING

import biorel
import pandas as pd
import pytest

if TYPE_CHECKING:
    from conftest import Stranger

DRUGS = ["aspirin", "warfarin", "ibuprofen", "heparin", "digoxin", "quinidine"]
COLUMNS = ["--columns", "text=sentence", "entity1=drug_a", "entity2=drug_b"]


@pytest.fixture(scope="module", autouse=True)
def _spreadsheet(stranger: Stranger) -> None:
    """The newcomer's table: sentences with two drugs each, and two new ones without labels."""
    rows = []
    for number in range(60):
        one, other = DRUGS[number % 6], DRUGS[(number + 1 + number // 6 % 5) % 6]
        related = number % 2 == 0
        verb = "enhances" if related else "was given before"
        rows.append((f"{one.title()} {verb} {other}.", one, other, "effect" if related else "none", f"d{number // 2}"))
    names = ["sentence", "drug_a", "drug_b", "label", "document"]
    pd.DataFrame(rows, columns=names).to_csv(stranger.folder / "mine.csv", index=False)
    new = [
        ("Warfarin enhances aspirin.", "warfarin", "aspirin"),
        ("Heparin was given before digoxin.", "Heparin", "digoxin"),
    ]
    pd.DataFrame(new, columns=names[:3]).to_csv(stranger.folder / "new.csv", index=False)


@pytest.fixture(scope="module")
def model(stranger: Stranger) -> str:
    """A model of drug-drug interactions, trained by the command line on the sample."""
    sample = stranger.python("import biorel; print(biorel.sample_path('ddi'))").strip()
    options = ["--encoder", str(stranger.encoder), "--max-steps", "2", "--max-length", "96", "--no-progress"]
    done = stranger.biorel("finetune", "ddi", sample, *options, "--output", "ddi-model")
    assert "micro-F1 over the 4 positive classes, test, 142 pairs" in done.stdout
    return "ddi-model"


def test_1_own_table_to_predictions(stranger: Stranger) -> None:
    printed = stranger.python(f"""
import biorel, pandas as pd
names = {{"text": "sentence", "entity1": "drug_a", "entity2": "drug_b"}}
corpus = biorel.load_corpus("table", "mine.csv", columns=names).split(test=0.2, seed=1)
run = biorel.finetune(corpus, {str(stranger.encoder)!r}, max_steps=60, max_length=64, learning_rate=1e-3)
run.save("mine")
print(biorel.load("mine").predict(pd.read_csv("new.csv")).to_json(orient="records", lines=True))
""")
    rows = [json.loads(line) for line in printed.split("\n") if line]
    assert [row["drug_a"] for row in rows] == ["warfarin", "Heparin"]
    assert [row["relation"] for row in rows] == ["effect", "none"]
    for row in rows:
        assert row["p_effect"] + row["p_none"] == pytest.approx(1, abs=1e-4)


def test_2_the_same_on_the_command_line(stranger: Stranger) -> None:
    options = ["--encoder", str(stranger.encoder), "--max-steps", "2", "--max-length", "96", "--no-progress"]
    options += ["--test-fraction", "0.2", "--output", "mine-cli"]
    done = stranger.biorel("finetune", "table", "mine.csv", *options, *COLUMNS)
    assert re.search(r"test, 1\d pairs", done.stdout)
    table = pd.read_csv(io.StringIO(stranger.biorel("predict", "mine-cli", "new.csv", "--format", "csv").stdout))
    assert table["drug_b"].tolist() == ["aspirin", "digoxin"]
    assert table["relation"].isin(["effect", "none"]).all()


def test_3_a_bad_table_is_explained(stranger: Stranger) -> None:
    table = pd.read_csv(stranger.folder / "mine.csv")
    table.loc[7, "drug_b"] = "paracetamol"
    table.to_csv(stranger.folder / "absent.csv", index=False)
    done = stranger.biorel("check", "table", "absent.csv", *COLUMNS, code=1)
    assert "absent.csv: the entities of 1 of 60 rows" in done.stderr
    assert "line 9: drug_b" in done.stderr
    assert "paracetamol" in done.stderr
    table = pd.read_csv(stranger.folder / "mine.csv")
    table.loc[3, "label"] = "None"
    table.to_csv(stranger.folder / "labels.csv", index=False)
    done = stranger.biorel("check", "table", "labels.csv", *COLUMNS, code=1)
    assert re.search(r"error: .*differ only in case or blanks: 'None', 'none'\n    \w+", done.stdout)


def test_4_a_split_by_fraction(stranger: Stranger) -> None:
    printed = stranger.python("""
import biorel, json
names = {"text": "sentence", "entity1": "drug_a", "entity2": "drug_b"}
corpus = biorel.load_corpus("table", "mine.csv", columns=names).split(test=0.2, dev=0.1, by="document", seed=1)
print(json.dumps({split: corpus.instances(split)["document"].tolist() for split in corpus.splits}))
""")
    parts = json.loads(printed)
    assert set(parts) == {"train", "dev", "test"}
    assert sum(map(len, parts.values())) == 60
    assert len(parts["test"]) == 12
    documents = [set(part) for part in parts.values()]
    assert sum(map(len, documents)) == len(set.union(*documents)) == 30


def test_5_documents_with_other_names_of_types(stranger: Stranger, model: str) -> None:
    text = "Aspirin enhances warfarin."
    mentions = "".join(f"1\t{text.index(name)}\t{text.index(name) + len(name)}\t{name}\tChemical\n"
                       for name in ("Aspirin", "warfarin"))  # fmt: skip
    (stranger.folder / "abstracts.pubtator").write_text(f"1|t|{text}\n1|a|\n{mentions}\n")
    done = stranger.biorel("predict", model, "abstracts.pubtator", code=1)
    advice = re.search(r"--type (Chemical=\w+)", done.stderr)
    assert advice is not None
    done = stranger.biorel("predict", model, "abstracts.pubtator", "--type", advice[1], "--format", "csv")
    table = pd.read_csv(io.StringIO(done.stdout))
    assert table[["entity1", "entity2"]].to_numpy().tolist() == [["Aspirin", "warfarin"]]


def test_6_a_killed_comparison_resumes(stranger: Stranger) -> None:
    code = f"""
import biorel
comparison = biorel.compare(
    biorel.load_sample("ddi"), encoders=[{str(stranger.encoder)!r}], seeds=range(4), directory="heads",
    max_steps=4, max_length=96, progress=False,
)
print(comparison.results[["head", "trials", "failed"]].to_json(orient="values"))
"""
    process, lines = stranger.start(code), stranger.folder / "heads" / "trials.jsonl"
    while process.poll() is None and not (lines.exists() and lines.read_bytes().count(b"\n") >= 2):
        time.sleep(0.001)
    process.kill()
    process.communicate()
    before = lines.read_bytes().splitlines()
    assert 2 <= len(before) < 8, "the comparison ended before it could be killed"
    assert json.loads(stranger.python(code)) == [["cls", 4, 0], ["attention", 4, 0]]
    after = lines.read_bytes().splitlines()
    assert len(after) == 8
    assert after[: len(before) - 1] == before[:-1]
    assert len({json.loads(line)["trial"] for line in after}) == 8


def test_7_scores_of_other_predictions(stranger: Stranger) -> None:
    printed = stranger.python("""
import biorel
scores = biorel.score(["effect", "effect", "int", "false"], ["effect", "false", "int", "int"], task="ddi", name="mine")
print(scores.set_index("class").loc["micro", ["precision", "recall", "f1"]].tolist())
print(scores.protocol)
""").splitlines()
    assert json.loads(printed[0]) == pytest.approx([2 / 3, 2 / 3, 2 / 3])
    assert printed[1] == "micro-F1 over the 4 positive classes, mine, 4 pairs"


def test_8_embeddings_for_another_classifier(stranger: Stranger) -> None:
    printed = stranger.python(f"""
import biorel, numpy as np, pandas as pd
table = pd.read_csv("mine.csv")
vectors = biorel.load_encoder({str(stranger.encoder)!r}).embed(table["sentence"], pooling="mean")
positive = (table["label"] == "effect").to_numpy()
weights, *_ = np.linalg.lstsq(np.c_[vectors, np.ones(len(vectors))], positive * 2.0 - 1.0, rcond=None)
print(vectors.shape, ((np.c_[vectors, np.ones(len(vectors))] @ weights > 0) == positive).mean())
""")
    shape, accuracy = printed.rsplit(" ", 1)
    assert shape == "(60, 32)"
    assert float(accuracy) > 0.9


def test_9_attention_in_pandas(stranger: Stranger, model: str) -> None:
    printed = stranger.python(f"""
import biorel
words = biorel.load({model!r}).attention(biorel.load_sample("ddi"))
sums = words.groupby("instance")["weight"].sum()
print(len(sums), sums.min(), sums.max(), words.groupby("word")["weight"].mean().idxmax() in set(words["word"]))
""")
    count, low, high, _ = printed.split()
    assert int(count) == 142
    assert 0 < float(low) <= float(high) <= 1 + 1e-4


def test_10_the_version(stranger: Stranger) -> None:
    lines = stranger.module("biorel", "--version").splitlines()
    assert lines == stranger.biorel("--version").stdout.splitlines()
    assert lines[0] == f"biorel {biorel.__version__}"
    assert lines[1].startswith("build: CPU")
    where = stranger.python("import biorel; print(biorel.__file__)")
    assert "venv" in where
    assert "newcomer" in where
