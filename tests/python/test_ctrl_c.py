"""Ctrl-C during long calls: a prompt KeyboardInterrupt, no partial files, and the same result after resuming."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import biorel
import pandas as pd
import pytest

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="POSIX signals"),
    # Python can raise KeyboardInterrupt between open() and the `with` that would close the file, and in finalizers.
    # It then only reports an unraisable exception, and the file is closed by its finalizer. Code cannot avoid this.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

# How often each call is interrupted, at random moments.
TIMES = 4
# Maximum seconds from the signal to the exception, on a busy machine; usually it takes 0.05.
MAX_DELAY = 30.0


class Interruptions:
    """Sends SIGINT to this process while `work` runs."""

    def __init__(self) -> None:
        self.sent = 0.0
        self.armed = False
        self.moments = random.Random(11)

    def handle(self, number: int, frame: Any) -> None:
        """Python's own handler, except that a signal after the end of the work is ignored."""
        if self.armed:
            self.armed = False
            signal.default_int_handler(number, frame)

    def _send(self) -> None:
        self.sent = time.monotonic()
        os.kill(os.getpid(), signal.SIGINT)

    def during(self, work: Callable[[], object], patience: float) -> bool:
        """Send a signal during the work, within `patience` seconds; returns False if the work ended before it."""
        timer = threading.Timer(self.moments.uniform(0, patience), self._send)
        self.armed = True
        try:
            timer.start()
            work()
            self.armed = False
        except KeyboardInterrupt:
            assert time.monotonic() - self.sent < MAX_DELAY
            return True
        finally:
            timer.cancel()
            timer.join()
        return False

    def until(self, times: int, work: Callable[[], object], patience: float) -> None:
        """Interrupt endless work; again if the interrupt was lost in a finalizer."""
        for _ in range(times):
            assert any(self.during(work, patience) for _ in range(3))


@pytest.fixture
def interruptions() -> Iterator[Interruptions]:
    """Handle SIGINT, which a background job of a shell ignores by default."""
    interruptions = Interruptions()
    before = signal.signal(signal.SIGINT, interruptions.handle)
    yield interruptions
    signal.signal(signal.SIGINT, before)


def content(folder: Path) -> dict[str, str]:
    """Hashes of all files, including hidden ones."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def interrupt_until_done(
    interruptions: Interruptions, work: Callable[[], object], seconds: float, directory: Path
) -> None:
    """Interrupt work that resumes, check for partial files each time, and finally let it end.

    Work that ended before its first signal is repeated with an earlier signal: the first run of a kind is the slowest.
    """
    stopped, patience = 0, seconds / 2
    for _ in range(5 * TIMES):
        if interruptions.during(work, patience):
            stopped += 1
        elif stopped == 0:
            shutil.rmtree(directory)
            directory.mkdir()
            patience /= 2
        assert not [path for path in directory.rglob("*") if ".partial" in path.name]
        if stopped == TIMES:
            break
    assert stopped > 0
    work()


def repeat(work: Callable[[], object]) -> Callable[[], None]:
    """Repeat the work until long after an interrupt should have been raised."""

    def loop() -> None:
        end = time.monotonic() + 2 * MAX_DELAY
        while time.monotonic() < end:
            work()

    return loop


def timed(work: Callable[[], object]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


def test_training(ddi: biorel.Corpus, encoder: biorel.Encoder, interruptions: Interruptions, tmp_path: Path) -> None:
    def work(name: str) -> None:
        settings: dict[str, Any] = {"max_length": 96, "max_steps": 60, "seed": 3, "progress": False}
        run = biorel.finetune(ddi, encoder, checkpoint=tmp_path / name / "checkpoint", save_steps=2, **settings)
        run.model.save(tmp_path / name / "model")

    for name in ("uninterrupted", "stopped"):
        (tmp_path / name).mkdir()
    seconds = timed(lambda: work("uninterrupted"))
    interrupt_until_done(interruptions, lambda: work("stopped"), seconds, tmp_path / "stopped")
    assert content(tmp_path / "stopped" / "model") == content(tmp_path / "uninterrupted" / "model")
    assert {path.name for path in (tmp_path / "stopped").iterdir()} == {"checkpoint", "model"}


def test_comparison(ddi: biorel.Corpus, encoder: biorel.Encoder, interruptions: Interruptions, tmp_path: Path) -> None:
    def work(name: str) -> pd.DataFrame:
        settings: dict[str, Any] = {"heads": ["cls", "attention"], "seeds": [1, 2], "max_length": 96, "max_steps": 12}
        settings |= {"save_steps": 3, "progress": False}
        return biorel.compare(ddi, directory=tmp_path / name, encoders=[encoder], **settings).results

    wanted: list[pd.DataFrame] = []
    seconds = timed(lambda: wanted.append(work("uninterrupted")))
    interrupt_until_done(interruptions, lambda: work("stopped"), seconds, tmp_path / "stopped")
    pd.testing.assert_frame_equal(work("stopped"), wanted[0])
    assert content(tmp_path / "stopped" / "predictions") == content(tmp_path / "uninterrupted" / "predictions")


def sentences(corpus: biorel.Corpus, count: int) -> list[dict[str, Any]]:
    """Sentences whose two longest words are drugs."""
    result = []
    for text in corpus.sentences("train")["text"].tolist()[:count]:
        words = sorted(set(text.split(" ")), key=lambda word: (len(word), word))[-2:]
        starts = sorted((text.index(word), word) for word in words)
        entities = [{"start": start, "end": start + len(word), "type": "drug"} for start, word in starts]
        result.append({"text": text, "entities": entities})
    return result


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_prediction_of_documents(
    run: biorel.Run, ddi: biorel.Corpus, interruptions: Interruptions, tmp_path: Path, format: Any
) -> None:
    found = sentences(ddi, 150)
    texts = pd.DataFrame({"document": range(len(found)), "text": [one["text"] for one in found]}, dtype=str)
    spans = [{"document": str(number), **entity} for number, one in enumerate(found) for entity in one["entities"]]
    biorel.write_documents(biorel.documents_from_tables(texts, pd.DataFrame(spans)), tmp_path / "all.txt")

    def work(name: str) -> None:
        output = tmp_path / name
        biorel.predict_documents(
            run.model, tmp_path / "all.txt", output, format=format, part_documents=3, progress=False
        )

    seconds = timed(lambda: work("uninterrupted"))
    interrupt_until_done(interruptions, lambda: work("stopped"), seconds, tmp_path / "stopped")
    assert content(tmp_path / "stopped") == content(tmp_path / "uninterrupted")


def test_saving(run: biorel.Run, interruptions: Interruptions, tmp_path: Path) -> None:
    directory = tmp_path / "model"
    run.model.save(directory)
    wanted = content(tmp_path)
    for _ in range(2 * TIMES):
        interruptions.until(1, repeat(lambda: run.model.save(directory)), 0.1)
        assert content(tmp_path) == wanted


def test_loading_and_predicting(
    run: biorel.Run, ddi: biorel.Corpus, interruptions: Interruptions, tmp_path: Path
) -> None:
    run.model.save(tmp_path / "model")
    found = sentences(ddi, 100)
    works: list[Callable[[], object]] = [
        lambda: biorel.load_corpus("ddi", biorel.sample_path("ddi")),
        lambda: biorel.load_corpus("chemprot", biorel.sample_path("chemprot")),
        lambda: biorel.load(tmp_path / "model"),
        lambda: run.model.predict(found),
        lambda: run.attention("test"),
    ]
    for work in works:
        interruptions.until(2, repeat(work), 0.2)
    wanted = run.model.predict(found)
    with contextlib.suppress(KeyboardInterrupt):
        interruptions.during(lambda: run.model.predict(found * 20), 0.1)
    pd.testing.assert_frame_equal(run.model.predict(found), wanted)
