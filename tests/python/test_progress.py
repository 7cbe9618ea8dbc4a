"""Progress without a terminal, estimates of the duration, and the levels of messages."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path

import biorel
import numpy as np
import pandas as pd
import pytest
from biorel import _progress
from biorel._progress import Counter, LongWork, Progress
from biorel.cli.main import main
from biorel.training.progress import Reporter, estimate
from tiny_bert import write_encoder

SAMPLE = str(biorel.sample_path("ddi"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("progress") / "encoder")


class Clock:
    """A clock that the test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(_progress.time, "monotonic", lambda: self.now)


def test_lines_replace_the_bar_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch)
    with Progress(1000, "fine-tuning", "steps") as shown:
        for done in range(1, 101):
            clock.now += 1
            shown.advance(done, "loss 0.5")
    text = capsys.readouterr().err
    assert "\r" not in text
    assert text.splitlines() == [
        "fine-tuning: 30/1,000 steps, 00:30 elapsed, 16:10 left, loss 0.5",
        "fine-tuning: 60/1,000 steps, 01:00 elapsed, 15:40 left, loss 0.5",
        "fine-tuning: 90/1,000 steps, 01:30 elapsed, 15:10 left, loss 0.5",
        "fine-tuning: 100/1,000 steps, 01:40 elapsed, 15:00 left, loss 0.5",
    ]


def test_a_short_task_writes_no_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock(monkeypatch)
    with Progress(10, "documents", "B") as shown:
        clock.now += 29
        shown.advance(10)
    assert capsys.readouterr().err == ""


def test_what_has_no_known_length_is_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch)
    for show in (True, False):
        with Counter("reading texts", "texts", show=show) as counter:
            for done in range(1, 71):
                clock.now += 1
                counter.advance(1024 * done)
    expected = ["reading texts: 30,720 texts, 00:30 elapsed", "reading texts: 61,440 texts, 01:00 elapsed"]
    assert capsys.readouterr().err.splitlines() == expected


def test_long_measurements_of_held_out_texts_are_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch)
    with Reporter([], {"precision": "f32"}, True, "adapting") as reporter:
        for seconds in (0, 20):
            for done in range(1, 11):
                clock.now += seconds
                row = {"done": np.array([32 * done]), "total": np.array([320])}
                reporter.report("held_out", row, 100)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("about ")
    assert lines[-1].startswith("measuring the held-out texts: 320/320 parts")
    assert len(lines) <= 6


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with Progress(4, "trials", "trials", initial=1) as shown:
        shown.advance(3)
    assert re.search(r"\rtrials: +75%\|.*\| 3/4 ", terminal.getvalue())
    with Counter("reading texts", "texts") as counter:
        counter.advance(7)
    assert re.search(r"\rreading texts: 7 texts ", terminal.getvalue())


def test_the_duration_of_a_long_run_is_estimated_from_its_first_steps(
    encoder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"step": step, "instances": 32, "seconds": 100.0 if step == 1 else 2.0} for step in range(1, 7)]
    assert estimate(rows, 36) == ""  # a minute
    assert estimate(rows, 3606) == "about 2 h 0 min: 3,600 steps, 115,200 sentences at 16.0 a second"
    # In a run: every duration counts as long.
    settings = {"max_length": 96, "batch_size": 8, "epochs": 1}
    biorel.finetune(biorel.load_sample("ddi"), encoder, **settings)
    assert "about" not in capsys.readouterr().err
    monkeypatch.setattr(_progress, "_LONG", 0.0)
    biorel.finetune(biorel.load_sample("ddi"), encoder, **settings)
    assert re.search(r"about \d+ s: 45 steps, 360 sentences at [\d,.]+ a second\n", capsys.readouterr().err)


def test_a_long_stream_is_announced(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock(monkeypatch)

    def run(seconds: float, steps: int) -> list[str]:
        options = {"initial": 4_000_000, "scaled": True, "estimated": True}
        with Progress(10_000_000, "documents", "B", **options) as shown:
            for step in range(1, steps + 1):
                clock.now += 20.0 if step == 1 else seconds
                shown.advance(4_000_000 + step * 100_000)
        return [line for line in capsys.readouterr().err.splitlines() if line.startswith("about")]

    # The first step is not counted. After six of sixty, 5.4 of 10 MB are left.
    assert run(2.0, 8) == ["about 2 min: 5.40MB"]
    assert run(1.0, 50) == []  # 54 seconds
    # Fewer steps do if they take long; steps at the same place say nothing.
    assert run(15.0, 2) == ["about 14 min: 5.80MB"]
    with Progress(100, "documents", "B", estimated=True) as shown:
        for _ in range(20):
            clock.now += 60.0
            shown.advance(50)
    assert "about" not in capsys.readouterr().err


def test_work_is_announced_if_it_will_be_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch)

    def run(seconds: float, steps: int, *, show: bool = True) -> list[str]:
        with LongWork(1000, "prediction", "pairs", show=show) as work:
            for step in range(1, steps + 1):
                clock.now += 50.0 if step == 1 else seconds
                work.report(step / 100)
        return capsys.readouterr().err.splitlines()

    # The first step is not counted. After six of a hundred, 940 of 1,000 pairs are left.
    assert run(1.0, 6) == ["about 2 min: 940 pairs at 10.0 a second"]
    assert run(0.6, 100) == []  # 56 seconds
    assert run(1.0, 100, show=False) == []
    # Fewer steps do if they take long.
    assert run(20.0, 2) == ["about 33 min: 980 pairs at 0.5 a second"]
    assert run(1.0, 100) == [
        "about 2 min: 940 pairs at 10.0 a second",
        "prediction: 360/1,000 pairs, 00:30 elapsed, 01:04 left",
        "prediction: 660/1,000 pairs, 01:00 elapsed, 00:34 left",
        "prediction: 960/1,000 pairs, 01:30 elapsed, 00:04 left",
        "prediction: 1,000/1,000 pairs, 01:34 elapsed",
    ]


def test_evaluation_attention_and_tables_are_announced(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ddi = biorel.load_sample("ddi")
    run = biorel.finetune(ddi, encoder, max_steps=1, max_length=96, progress=False)
    table = pd.DataFrame({"text": ["Aaa and bbb."] * 2000, "entity1": "Aaa", "entity2": "bbb"})
    run.model.save(tmp_path / "model")
    work: dict[str, Callable[[], object]] = {
        "evaluate": lambda: run.model.evaluate(ddi, "train"),
        "attention": lambda: run.model.attention(ddi, "train", kind="gradient"),
        "predict": lambda: run.model.predict(table),
        "mask_words": lambda: run.model.mask_words(ddi, "train", related=False, limit=None, words=[1], n_random=2),
        "command": lambda: main(["evaluate", str(tmp_path / "model"), "ddi", SAMPLE, "--split", "train"]),
    }
    for task in work.values():
        task()
    assert "about" not in capsys.readouterr().err
    monkeypatch.setattr(_progress, "_LONG", 0.0)
    monkeypatch.setattr(_progress, "MEASURED", 2)
    for name, task in work.items():
        task()
        assert re.search(r"^about \d+ s: [\d,]+ pairs at [\d,.]+ a second$", capsys.readouterr().err, re.M), name
    main(["evaluate", str(tmp_path / "model"), "ddi", SAMPLE, "--split", "train", "--log-level", "warning"])
    assert "about" not in capsys.readouterr().err


def test_one_line_per_trial(encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--encoder", str(encoder), "--max-length", "96", "--max-steps", "1", "--directory", str(tmp_path / "a")]
    command = ["compare", "ddi", SAMPLE, "--head", "cls", "--head", "attention", *options]
    assert main(command) == 0
    lines = capsys.readouterr().err.splitlines()
    trials = [line for line in lines if line.startswith("trial ")]
    assert [re.sub(r"encoder \S+,", "encoder E,", line.split(": F1")[0]) for line in trials] == [
        "trial 1 of 2, encoder E, head cls, seed 1",
        "trial 2 of 2, encoder E, head attention, seed 1",
    ]
    assert all(re.search(r": F1 0\.\d{3}, 1 steps? in \d+ s$", line) for line in trials)


@pytest.mark.filterwarnings("default")
def test_the_level_of_messages(encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["finetune", "ddi", SAMPLE, "--encoder", str(encoder), "--max-steps", "1", "--max-length"]
    saved = ["--output", str(tmp_path / "model"), "--log-level"]
    assert main([*command, "12", *saved, "error"]) == 0
    assert capsys.readouterr().err == ""
    assert main([*command, "12", *saved, "warning"]) == 0
    warnings = capsys.readouterr().err.splitlines()
    assert warnings
    assert all(line.startswith("warning: ") for line in warnings)
    assert main([*command, "12", *saved, "info"]) == 0
    assert "model saved to" in capsys.readouterr().err
    assert main([*command, "0", *saved, "error"]) == 1
    assert capsys.readouterr().err.startswith("error: max_length: 0 is out of range")
    assert main([*command, "0", *saved, "debug"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_the_hidden_states_of_a_frozen_encoder_are_counted(
    encoder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_progress, "_INTERVAL", 0.0)
    corpus = biorel.load_sample("ddi")
    settings = {"max_steps": 2, "batch_size": 4, "max_length": 60, "too_long": "drop"}
    biorel.finetune(corpus, str(encoder), freeze="all", progress=True, **settings)
    text = capsys.readouterr().err
    assert "computing hidden states: 8/8 sentences" in text
    assert text.index("computing hidden states") < text.index("fine-tuning")
