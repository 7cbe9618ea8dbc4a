"""The paper's tables and figures from the samples, with a tiny encoder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import biorel
import pandas as pd
import pytest
from biorel.cli.main import main
from biorel.reproduction import published
from biorel.reproduction.report import Report, Section
from tiny_bert import write_encoder

ITEMS = ["table1", "table3", "table4", "table5", "table6", "figure3", "figure4", "faithfulness"]


@pytest.fixture(scope="module")
def samples() -> dict[str, biorel.Corpus]:
    return {name: biorel.load_sample(name) for name in ("aimed", "ddi", "chemprot")}


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("reproduction")
    encoder = write_encoder(folder / "encoder")
    settings = {"preset": "quick", "encoders": {"biobert": encoder}, "seeds": [1, 2], "progress": False}
    return {**settings, "directory": folder / "out", "max_steps": 30, "max_length": 96, "learning_rate": 3e-3}


@pytest.fixture(scope="module")
def result(samples: dict[str, biorel.Corpus], options: dict[str, Any]) -> biorel.Reproduction:
    return biorel.reproduce("all", corpora=samples, **options)


def test_every_item_is_in_the_report(result: biorel.Reproduction, samples: dict[str, biorel.Corpus]) -> None:
    assert set(result.tables) >= {"table1", "table3", "table4", "table5", "table5_by_class", "table6", "faithfulness"}
    table = result.tables["table3"]
    assert table["model"].tolist() == ["SOTA then", "BioBERT", "+LSTM_LL", "+Att_LL"] * 3
    best = table[(table["model"] == "+Att_LL") & (table["corpus"] == "ddi")].iloc[0]
    assert best["published_f1"] == 80.7
    assert best["difference"] == pytest.approx(best["f1"] - 80.7, abs=0.011)
    assert (best["seeds"], best["trials"]) == (2, 2)
    assert len(result.tables["table4"]) == 15
    assert result.tables["table6"]["published_f1"].tolist() == [81.0, 78.4, 75.7]
    stems = result.tables["table5"]
    first = stems[(stems["corpus"] == "ddi") & (stems["min_count"] == 3) & (stems["pieces"] == "sum")]
    assert first["published"].tolist() == published.STEMS["ddi"]
    assert set(stems["min_count"]) <= {3, 20, 50}
    assert (stems["count"] >= stems["min_count"]).all()
    figure = result.tables["figure4"]
    assert figure["baseline_positive"].notna().any()
    for side in ("positive", "negative"):  # a stem may be missing on one side
        assert (figure[f"baseline_{side}"].notna() == (figure[f"{side}_count"] > 0)).all()
    assert (stems["trigger"] == [row.stem in published.TRIGGERS[row.corpus] for row in stems.itertuples()]).all()


def test_scores_match_the_trials(
    result: biorel.Reproduction, samples: dict[str, biorel.Corpus], options: dict[str, Any]
) -> None:
    """Nothing is trained twice: tables 3 and 4 share the trials of `cls`, the figures those of `attention`."""
    trials = pd.read_json(result.directory / "runs" / "ddi" / "trials.jsonl", lines=True)
    assert len(trials) == 7 * 2
    own = trials[trials["head"] == "lstm"]["f1"].mean()
    table = result.tables["table3"]
    shown = table[(table["head"] == "lstm") & (table["corpus"] == "ddi")]["f1"].iloc[0]
    assert shown == pytest.approx(100 * own, abs=0.006)


def test_files_and_report(result: biorel.Reproduction) -> None:
    files = {path.name for path in result.directory.iterdir()}
    assert {"report.html", "report.md", "table3.csv", "figure4-ddi.svg", "figure3-ddi.html"} <= files
    page = (result.directory / "report.html").read_text(encoding="utf-8")
    assert page.count("<h2>") == len(ITEMS)
    assert "<svg" in page
    # Self-contained: no resource is fetched.
    assert not re.search(r'(src|href)="(?!#)', page)
    assert "NOT the paper&#x27;s settings" in page
    assert "learning_rate=0.003" in page
    assert re.search(r"Computed in (f32|bf16)\.", page)
    assert "Only the first of AIMed&#x27;s ten folds was run." in page
    assert repr(result) == (result.directory / "report.md").read_text(encoding="utf-8")
    table = pd.read_csv(result.directory / "table3.csv")
    assert table["published_f1"].tolist()[:2] == [77.6, 81.0]


def test_text_is_escaped() -> None:
    table = pd.DataFrame({"stem": ["<script>", "a|b"], "weight": [0.5, None], "n": [1200, 3]})
    report = Report("a < b", ["<b>"], [Section("x > y", ["<i>"], {"t": table})])
    page = report.html()
    assert not re.search("<script|<b>|<i>|a < b|x > y", page)
    assert "&lt;script&gt;" in page
    assert "| a\\|b |  | 3 |" in report.markdown()
    assert "| &lt;script> | 0.5000 | 1,200 |" in report.markdown()


def test_all_rows_of_a_column_have_the_same_number_of_decimals() -> None:
    table = pd.DataFrame({"percent": [0.5, 61.25, None], "share": [0.5, 0.0612, 0.0]})
    lines = Report("t", [], [Section("s", [], {"t": table})]).markdown().splitlines()
    assert lines[-3:] == ["| 0.50 | 0.5000 |", "| 61.25 | 0.0612 |", "|  | 0.0000 |"]


def test_an_interrupted_call_resumes(
    result: biorel.Reproduction, samples: dict[str, biorel.Corpus], options: dict[str, Any]
) -> None:
    path = result.directory / "runs" / "ddi" / "trials.jsonl"
    before = path.read_bytes()
    again = biorel.reproduce(["table3", "figure4"], corpora=samples, **options)
    assert path.read_bytes() == before
    pd.testing.assert_frame_equal(again.tables["table3"], result.tables["table3"])
    pd.testing.assert_frame_equal(again.tables["figure4"], result.tables["figure4"])
    with pytest.raises(biorel.ConfigError, match="max_steps"):
        biorel.reproduce("table3", corpora=samples, **{**options, "max_steps": 31})


def test_table1_has_the_printed_total_of_aimed(corpora: Path, tmp_path: Path) -> None:
    aimed = biorel.load_corpus("aimed", corpora / "aimed" / "aimed_pairs.tsv")
    table = biorel.reproduce("table1", corpora={"aimed": aimed}, directory=tmp_path).tables["table1"]
    assert table[["published", "pairs", "difference"]].values.tolist() == [[5834, 5834, 0]]


def test_missing_corpora_and_encoders_are_reported(
    samples: dict[str, biorel.Corpus], options: dict[str, Any], tmp_path: Path
) -> None:
    result = biorel.reproduce("table1", corpora={"ddi": samples["ddi"]}, directory=tmp_path)
    assert "Left out because the corpus was not given: PPI, ChemProt." in repr(result)
    wrong: Any = "table2"
    with pytest.raises(biorel.ConfigError, match="what: must be one of table1"):
        biorel.reproduce(wrong, corpora=samples)
    with pytest.raises(biorel.ConfigError, match="contains none of aimed, ddi, chemprot"):
        biorel.reproduce("table1", corpora=tmp_path / "..", directory=tmp_path / "x")
    with pytest.raises(biorel.ConfigError, match="`bc5` is not one of"):
        biorel.reproduce("table1", corpora={"bc5": samples["ddi"]}, directory=tmp_path)
    with pytest.raises(FileNotFoundError):
        biorel.reproduce("table1", corpora=tmp_path / "nowhere", directory=tmp_path)
    # The failure of one encoder is a note in the report.
    settings = {**options, "directory": tmp_path, "encoders": {**options["encoders"], "scibert": tmp_path / "none"}}
    table = biorel.reproduce("table6", corpora={"ddi": samples["ddi"]}, **settings)
    assert "scibert: " in repr(table)
    assert table.tables["table6"]["f1"].notna().tolist() == [True, False]


def test_all_folds_of_aimed(samples: dict[str, biorel.Corpus], options: dict[str, Any], tmp_path: Path) -> None:
    some = {**options, "directory": tmp_path, "max_steps": 2, "seeds": [1]}
    result = biorel.reproduce("table6", corpora={"aimed": samples["aimed"]}, folds="all", **some)
    assert result.tables["table6"]["trials"].tolist() == [10]
    assert "Only the first" not in repr(result)
    wrong: Any = "5"
    with pytest.raises(biorel.ConfigError, match="folds: must be all or first"):
        biorel.reproduce("table6", corpora=samples, folds=wrong, **some)


def test_table1_of_the_published_corpora(corpora: Path, tmp_path: Path) -> None:
    table = biorel.reproduce("table1", corpora=corpora, directory=tmp_path).tables["table1"]
    pairs = {(row.corpus, row.split): (row.pairs, row.difference) for row in table.itertuples()}
    assert pairs["ddi", "train"] == (18_779, 0)
    assert pairs["ddi", "dev"] == (7_244, 0)
    assert pairs["ddi", "test"] == (5_761, 0)
    assert pairs["aimed", "all"][0] == 5_834
    chemprot = table[table["corpus"] == "chemprot"]
    assert (chemprot["difference"].abs() / chemprot["published"] < 0.05).all()


def test_command(options: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "corpora"
    folder.mkdir()
    (folder / "ChemProt").symlink_to(biorel.sample_path("chemprot"))
    encoder = str(options["encoders"]["biobert"])
    flags = [
        "--preset",
        "quick",
        "--encoder",
        encoder,
        "--max-length",
        "96",
        "--max-steps",
        "2",
        "--no-progress",
    ]
    paths = ["--corpora", str(folder), "--directory", str(tmp_path / "out")]
    assert main(["reproduce", "table1", "table6", *paths, *flags]) == 0
    output = capsys.readouterr()
    assert "## Table VI" in output.out
    assert "max_steps=2, learning_rate=0.0001" in output.out
    assert "report.html" in output.err
    assert main(["reproduce", "table7", *paths, *flags]) == 1
    assert "what: must be one of" in capsys.readouterr().err
