"""The command line."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import biorel
import pandas as pd
import pytest
from biorel._biorel import Compute
from biorel.cli import training
from biorel.cli.main import main
from biorel.experiments import trial
from tiny_bert import write_encoder

SAMPLE = str(biorel.sample_path("ddi"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output directory of `biorel finetune`."""
    folder = tmp_path_factory.mktemp("cli")
    encoder = write_encoder(folder / "encoder")
    options = ["--encoder", str(encoder), "--max-length", "96", "--max-steps", "2", "--no-progress", "--format", "csv"]
    outputs = [
        "--output",
        str(folder / "model"),
        "--predictions",
        str(folder / "p.jsonl"),
        "--history",
        str(folder / "h.tsv"),
    ]
    assert main(["finetune", "ddi", SAMPLE, *options, *outputs]) == 0
    return folder


def test_finetune_writes_model_predictions_and_history(saved: Path) -> None:
    assert biorel.load(saved / "model").head == "attention"
    assert len(pd.read_json(saved / "p.jsonl", lines=True)) == 142
    assert pd.read_csv(saved / "h.tsv", sep="\t")["step"].tolist() == [1, 2]


def test_evaluate(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(saved / "model"), "ddi", SAMPLE]) == 0
    assert "micro-F1 over the 4 positive classes, test, 142 pairs" in capsys.readouterr().out
    assert main(["evaluate", str(saved / "model"), "ddi", SAMPLE, "--split", "train", "--format", "jsonl"]) == 0
    output = capsys.readouterr()
    assert [json.loads(line)["class"] for line in output.out.splitlines()][:2] == ["false", "mechanism"]
    assert "train, 406 pairs" in output.err


def test_predict(saved: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    sentence = json.dumps(
        {"text": "A or B", "entities": [{"start": 0, "end": 1, "type": "drug"}, {"start": 5, "end": 6, "type": "drug"}]}
    )
    monkeypatch.setattr(sys, "stdin", io.StringIO(sentence + "\n\n" + sentence + "\n"))
    assert main(["predict", str(saved / "model"), "-", "--format", "tsv"]) == 0
    table = pd.read_csv(io.StringIO(capsys.readouterr().out), sep="\t")
    assert table["sentence"].tolist() == ["s0", "s1"]
    assert table["entity2"].tolist() == ["B", "B"]
    (saved / "bad.jsonl").write_text(sentence + "\nnot json\n")
    assert main(["predict", str(saved / "model"), str(saved / "bad.jsonl")]) == 1
    assert "bad.jsonl:2: not a line of JSON" in capsys.readouterr().err


def test_sentences_may_contain_any_character_of_utf8(
    saved: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    entities = [{"start": 0, "end": 3, "type": "drug"}, {"start": 10, "end": 13, "type": "drug"}]
    line = json.dumps({"text": "aaa \u2028\x85\x1c\x0bx bbb", "entities": entities}, ensure_ascii=False)
    (tmp_path / "edge_cases.jsonl").write_text(line + "\n", encoding="utf-8")
    assert main(["predict", str(saved / "model"), str(tmp_path / "edge_cases.jsonl"), "--format", "jsonl"]) == 0
    assert json.loads(capsys.readouterr().out)["entity2"] == "bbb"
    (tmp_path / "latin.jsonl").write_bytes(line.encode() + b"\n\xff\n")
    (tmp_path / "deep.jsonl").write_text("[" * 100_000)
    for name, words in (("latin", "is not UTF-8"), ("deep", "not a line of JSON")):
        assert main(["predict", str(saved / "model"), str(tmp_path / f"{name}.jsonl")]) == 1
        assert words in capsys.readouterr().err
    (tmp_path / "deep.toml").write_text("head = " + "[" * 100_000)
    assert main(["finetune", "ddi", SAMPLE, "--config", str(tmp_path / "deep.toml")]) == 1
    assert "not a TOML file" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_files_and_pipes_get_utf8(saved: Path, tmp_path: Path, encoding: str) -> None:
    text = "β-carotene, ≥ 2 µM and 阿司匹林."
    spans = [
        {"start": text.index(name), "end": text.index(name) + len(name), "type": "drug"}
        for name in ("β-carotene", "阿司匹林")
    ]
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": text, "entities": spans}), encoding="utf-8")
    command = [sys.executable, "-m", "biorel", "predict", str(saved / "model"), str(tmp_path / "a.jsonl")]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    for style in ("csv", "table"):
        done = subprocess.run([*command, "--format", style], capture_output=True, check=True, env=environment)
        assert "阿司匹林" in done.stdout.decode()
    content = b"\xef\xbb\xbf" + (tmp_path / "a.jsonl").read_bytes()
    command[-1] = "-"
    piped = subprocess.run(
        [*command, "--format", "csv"], input=content, capture_output=True, check=True, env=environment
    )
    assert "阿司匹林" in piped.stdout.decode()
    refused = subprocess.run(command, input="ä".encode("latin-1"), capture_output=True, check=False, env=environment)
    assert refused.returncode == 1
    assert "error: -: is not UTF-8" in refused.stderr.decode()


def test_attention(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attention", str(saved / "model"), "ddi", SAMPLE, "--format", "csv"]) == 0
    table = pd.read_csv(io.StringIO(capsys.readouterr().out), keep_default_na=False)
    assert table["instance"].nunique() == 142


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["statistics", "ddi", "/no/such/folder"], "/no/such/folder"),
        (["statistics", "ddl", SAMPLE], "choose one of aimed, bioinfer, "),
        (["finetune", "ddi", SAMPLE, "--epochs", "0"], "epochs"),
        (["finetune", "ddi", SAMPLE, "--encoder", "bertie"], "bertie"),
        (["finetune", "ddi", SAMPLE, "--predictions", "table.xlsx"], "xlsx"),
        (["finetune", "aimed", str(biorel.sample_path("aimed"))], "--test-fraction 0.2"),
        (["finetune", "aimed", str(biorel.sample_path("aimed"))], "fold"),
        (["finetune", "ddi", SAMPLE, "--output", SAMPLE], "exists and is not a biorel model"),
        (["finetune", "ddi", SAMPLE, "--output", f"{__file__}/model"], "Not a directory"),
        (["evaluate", "/no/such/model", "ddi", SAMPLE], "/no/such/model"),
        (["predict", "/no/such/model"], "give a table, sentences or documents"),
        (["predict", SAMPLE, "-"], "biorel.json"),
    ],
)
def test_bad_input_exits_with_1_and_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert words in captured.err
    assert "Traceback" not in captured.err


def test_an_invalid_command_exits_with_2() -> None:
    for arguments in (["finetun"], ["finetune", "ddi"], ["finetune", "ddi", SAMPLE, "--learning-rat", "1"], []):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2


def test_errors_show_the_usage_of_their_command(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["predict", "model", "--bogus"], ["predict", "model", "a", "-b"], ["predict"]):
        with pytest.raises(SystemExit):
            main(arguments)
        assert capsys.readouterr().err.startswith("usage: biorel predict [-h]")


def test_a_configuration_file(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "run.toml"
    config.write_text(
        f"""
        corpus = "ddi"
        path = {json.dumps(SAMPLE)}
        encoder = {json.dumps(str(saved / "encoder"))}
        head = "cls"
        max-steps = 2
        max_length = 96
        learning-rate = 1
        adam-beta1 = 0.8
        bias-correction = true
        no-progress = true
        train = ["train"]
        format = "jsonl"

        [class-weights]
        effect = 2
        int = 0.5
        """
    )
    model = tmp_path / "model"
    options = ["--learning-rate", "1e-4", "--output", str(model), "--class-weights", "effect=3", "--no-bias-correction"]
    assert main(["finetune", "--config", str(config), "--output", str(tmp_path / "first"), "--learning-rate", "1"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["class"] == "false"
    training = biorel.load(tmp_path / "first").card["training"]
    assert (training["head"], training["adam_beta1"], training["bias_correction"]) == ("cls", 0.8, True)
    assert training["class_weights"] == [1.0, 1.0, 2.0, 1.0, 0.5]
    # The command line takes precedence.
    assert main(["finetune", "--config", str(config), *options]) == 0
    training = biorel.load(model).card["training"]
    assert (training["learning_rate"], training["bias_correction"]) == (1e-4, False)
    assert training["class_weights"] == [1.0, 1.0, 3.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("learning-rat = 1", "`learning-rat` is not an option of this command. Did you mean `learning-rate`?"),
        ("[training]\nhead = 'cls'", "`training` is not an option"),
        ("head = ", "not a TOML file"),
        ("epochs = 2.5", "epochs must be a whole number, not 2.5"),
        ("epochs = true", "epochs must be a whole number, not True"),
        ("epochs = '3'", "epochs must be a whole number, not '3'"),
        ("path = []", "path must have at least one"),
        ("format = 'xlsx'", "format must be one of table, tsv, csv, jsonl"),
        ("no-progress = 'yes'", "no-progress must be true or false"),
        ("class-weights = ['effect:2']", "class_weights: `effect:2` is neither `balanced` nor"),
        ("[class-weights]\neffect = 'much'", "class-weights.effect must be a number"),
    ],
)
def test_errors_of_a_configuration_file(
    text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "run.toml"
    config.write_text(text)
    assert main(["finetune", "ddi", SAMPLE, "--config", str(config)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert words in error
    assert main(["finetune", "ddi", SAMPLE, "--config", str(tmp_path / "none.toml")]) == 1
    assert "none.toml" in capsys.readouterr().err


def test_repeated_options_replace_those_of_the_file(saved: Path, tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text("head = ['cls', 'lstm']\nseed = 3\nmax-steps = 1\nmax-length = 96\nno-progress = true")
    common = [str(biorel.sample_path("ddi")), "--config", str(config), "--encoder", str(saved / "encoder")]
    assert main(["compare", "ddi", *common, "--directory", str(tmp_path / "a")]) == 0
    trials = pd.read_csv(tmp_path / "a" / "trials.tsv", sep="\t")
    assert trials[["head", "seed"]].values.tolist() == [["cls", 3], ["lstm", 3]]
    assert main(["compare", "ddi", *common, "--directory", str(tmp_path / "b"), "--head", "attention"]) == 0
    assert pd.read_csv(tmp_path / "b" / "trials.tsv", sep="\t")["head"].tolist() == ["attention"]


def test_dev_split_and_trackers(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--encoder", str(saved / "encoder"), "--max-length", "96", "--max-steps", "2", "--no-progress"]
    outputs = ["--dev", "dev", "--eval-steps", "1", "--no-load-best-model", "--evaluations", str(tmp_path / "e.csv")]
    tracker = ["--tensorboard", str(tmp_path / "logs"), "--casing", "uncased", "--output", str(tmp_path / "model")]
    assert main(["finetune", "chemprot", str(biorel.sample_path("chemprot")), *options, *outputs, *tracker]) == 0
    assert pd.read_csv(tmp_path / "e.csv")["step"].tolist() == [1, 2]
    assert list((tmp_path / "logs").glob("events.*"))
    output = capsys.readouterr()
    assert "test" in output.out
    assert "tensors of" in output.err
    assert "encoder: newly initialised: head.attention" in output.err


def test_the_help_describes_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("finetune", "cross-validate", "compare"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        text = " ".join(capsys.readouterr().out.split())
        assert "--learning-rate LEARNING_RATE Peak learning rate (default: 2e-05)" in text
        assert "does not fit: error, drop, join (default: join)" in text
        assert "scaled down to it; 0 disables clipping (default: 1.0)" in text
        assert "`" not in text
        # Every option has a description.
        options = text.split("options:")[1]
        assert not re.findall(r"--[a-z-]+ [A-Z_]+ --", options)


def test_a_fold_of_a_corpus_without_splits_is_scored_and_its_model_saved(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--encoder", str(saved / "encoder"), "--max-length", "96", "--max-steps", "1", "--no-progress"]
    aimed = ["finetune", "aimed", str(biorel.sample_path("aimed")), "--fold", "3", *options]
    # Without --output a model goes to a new directory; an earlier one is not replaced.
    for name in ("aimed-attention", "aimed-attention-2"):
        assert main(aimed) == 0
        output = capsys.readouterr()
        assert "F1 of the positive class `positive`, test" in output.out
        assert f"model saved to {name}\n" in output.err
        assert biorel.load(name).head == "attention"


def test_cross_validation(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--encoder", str(saved / "encoder"), "--max-length", "96", "--max-steps", "1", "--no-progress"]
    outputs = ["--folds", "2", "--predictions", str(tmp_path / "p.csv")]
    assert main(["cross-validate", "aimed", str(biorel.sample_path("aimed")), *options, *outputs]) == 0
    assert "F1 of the positive class `positive`, 2 folds by document, 302 pairs" in capsys.readouterr().out
    assert len(pd.read_csv(tmp_path / "p.csv")) == 302


def test_ctrl_c_says_what_it_left_behind(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> object:
        raise KeyboardInterrupt

    resume, nothing = "stopped; run the same command again to resume\n", "stopped; nothing was saved\n"
    options = ["--encoder", str(saved / "encoder"), "--max-length", "96", "--max-steps", "1", "--no-progress"]
    validation = ["cross-validate", "aimed", str(biorel.sample_path("aimed")), "--folds", "2", *options]
    tuning = ["finetune", "ddi", SAMPLE, *options, "--output", str(tmp_path / "model")]
    checkpoint = tmp_path / "checkpoint"
    monkeypatch.setattr(training, "finetune", stopped)
    monkeypatch.setattr(trial, "run_trial", stopped)
    for command, message in (
        (validation, nothing),
        ([*validation, "--directory", str(tmp_path / "cv")], resume),
        (["compare", *validation[1:], "--directory", str(tmp_path / "compared")], resume),
        (tuning, nothing),
        ([*tuning, "--checkpoint", str(checkpoint)], nothing),
    ):
        assert main(command) == 130
        assert capsys.readouterr().err.endswith(message), command
    checkpoint.touch()  # of an earlier run
    assert main([*tuning, "--checkpoint", str(checkpoint)]) == 130
    assert capsys.readouterr().err.endswith(resume)

    # During training, the exception has the model.
    def in_a_step(*_: object, **__: object) -> object:
        raise biorel.TrainingInterrupted("stopped after step 1", None)  # type: ignore[arg-type]

    monkeypatch.setattr(trial, "run_trial", in_a_step)
    assert main(validation) == 130
    assert capsys.readouterr().err.endswith(nothing)


def test_the_installed_command() -> None:
    command = Path(sys.executable).with_name("biorel")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[0] == f"biorel {biorel.__version__}"
    assert lines[1].startswith("build: CPU")
    instructions = Compute("cpu", "auto", None).instructions
    assert lines[2].startswith(f"instructions: {instructions}; precision auto is ")
    module = subprocess.run([sys.executable, "-m", "biorel", "--version"], capture_output=True, text=True, check=True)
    assert module.stdout == done.stdout


def test_the_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--max-steps", "2", "--output", str(tmp_path / "model")]) == 0
    output = capsys.readouterr().out
    for words in ("synthetic", "micro-F1 over the 4 positive classes, test, 142 pairs", "probability", "stem"):
        assert words in output
    assert biorel.load(tmp_path / "model").head == "attention"
