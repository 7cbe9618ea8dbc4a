"""The options of the command line: their groups in the help, and configuration files with all of them."""

from __future__ import annotations

import re
from pathlib import Path

import biorel
import pandas as pd
import pytest
from biorel.cli.config_file import read_config
from biorel.cli.main import main, make_parser

SAMPLE = str(biorel.sample_path("ddi"))


@pytest.mark.parametrize("name", [name for name in make_parser()[1].choices if name != "config"])
def test_the_template_of_a_configuration_file_sets_every_option(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", name, "--template"]) == 0
    text = capsys.readouterr().out
    assert not [line for line in text.splitlines() if line and not line.startswith("#")]
    (tmp_path / "all.toml").write_text(re.sub(r"(?m)^# ([a-z0-9-]+ = )", r"\1", text))
    command = make_parser()[1].choices[name]
    actions = [action for action in command._actions if action.dest not in ("help", "config")]
    before = {action.dest: vars(action).get("usual", action.default) for action in actions}
    read_config(tmp_path / "all.toml", command)
    after = {action.dest: action.default for action in command._actions if action.dest in before}
    assert None not in after.values()
    # Options that have a default keep it.
    defaults = {key: value for key, value in before.items() if value not in (None, [])}
    assert {key: after[key] for key in defaults} == defaults


def test_the_template_of_an_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "finetun", "--template"]) == 1
    assert "`finetun` is not a command; choose one of " in capsys.readouterr().err


def test_every_option_is_in_a_group_with_a_title(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["finetune", "--help"])
    text = capsys.readouterr().out
    titles = re.findall(r"(?m)^([a-z ]+):$", text)
    assert len(titles) == len(set(titles))
    assert {"model", "optimizer", "loss and sampling", "evaluation during training", "execution"} <= set(titles)
    model = text.split("\nmodel:\n")[1].split("\n\n")[0]
    assert "--head HEAD" in model
    assert "--learning-rate" not in model
    # An error shows one line of usage, not every option.
    with pytest.raises(SystemExit):
        main(["finetune", "ddi", SAMPLE, "--bogus"])
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_reproduce_takes_corpora_one_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["reproduce", "table1", "--directory", str(tmp_path)]
    pairs = [f"{name}={biorel.sample_path(name)}" for name in ("aimed", "chemprot")]
    assert main([*command, "--corpus", pairs[0], "--corpus", pairs[1]]) == 0
    table = pd.read_csv(tmp_path / "table1.csv")
    assert table["corpus"].unique().tolist() == ["aimed", "chemprot"]
    for wrong, words in (([], "give a folder with --corpora"), (["--corpus", "ddi"], "is not of the form NAME=PATH")):
        assert main([*command, *wrong]) == 1
        assert words in capsys.readouterr().err
    assert main([*command, "--corpus", f"dd={SAMPLE}"]) == 1
    assert "`dd` is not one of aimed, ddi, chemprot" in capsys.readouterr().err
