"""Kill biorel repeatedly with SIGKILL while it trains, compares, predicts and saves, and check what remains.

    python benchmarks/studies/reliability/kills.py --kills 1000 --seed 1

Children are forked from this process, which has everything loaded, and killed at a random moment of their run. A killed
training, comparison or document prediction is restarted until it ends, and must end with the bits and rows of an
uninterrupted run. A model saved over an earlier one must always be one of the two, complete; one saved under a new name must
be complete or absent. Each task gets a quarter of the kills. Prints a line of JSON every ten kills, and the totals at the
end; `half_written` counts the kills during a write. Any difference is an error.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "tests" / "python"))

# The children are forked after this process has computed.
os.environ["CANDLE_NUM_THREADS"] = "1"

import biorel
import pandas as pd
from tiny_bert import write_encoder

TRAINING = {"head": "lstm", "max_length": 96, "max_steps": 40, "seed": 3, "progress": False, "threads": 1}
GRID = {"heads": ["cls", "attention"], "seeds": [1, 2], "progress": False}
TRIALS = {"max_length": 96, "max_steps": 10, "save_steps": 2, "threads": 1}
# Documents in each file, and how many in a part; every eleventh is malformed.
DOCUMENTS, PART = 44, 3
FORMATS = ("jsonl", "parquet", "tsv", "bioc-json", "pubtator")


def digest(path: Path) -> str:
    """Hash of all files of a folder with their names, without the card, which contains the name of the folder."""
    found = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file() and file.name != "README.md":
            found.update(str(file.relative_to(path)).encode() + b"\0" + file.read_bytes())
    return found.hexdigest()


class Campaign:
    """Children, kills, and the longest life of a child before it is killed."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.random = random.Random(seed)
        self.folder = folder
        self.counts = {"kills": 0, "half_written": 0}
        self.name = ""
        self.goal = 0
        self.stop = float("inf")

    def begin(self, name: str, kills: int, minutes: float, *counted: str) -> dict[str, int]:
        """Start the next task, with this many kills or as many as time allows. Returns its counts."""
        self.name, self.goal, self.stop = name, kills, time.monotonic() + minutes * 60
        self.counts = dict.fromkeys(["kills", "half_written", *counted], 0)
        return self.counts

    def unfinished(self) -> set[tuple[Path, int]]:
        """Partially written files and folders, and when they changed."""
        return {(path, path.stat().st_mtime_ns) for path in self.folder.rglob(".*.partial*")}

    def continues(self) -> bool:
        """Whether more kills are due."""
        return self.counts["kills"] < self.goal and time.monotonic() < self.stop

    def run_to_end(self, work: Callable[[], object], patience: float) -> float:
        """Kill and restart `work` until it ends; after enough kills it may end uninterrupted.

        Returns the patience for the next run, since a run's duration changes with the machine's load.
        """
        start = time.monotonic()
        while not self.child(work, patience if self.continues() else None):
            pass
        return (patience + time.monotonic() - start) / 2

    def child(self, work: Callable[[], object], patience: float | None) -> bool:
        """Run `work` in a child, and kill it after a random time below `patience`, if any; return whether it ended by itself."""
        before = self.unfinished()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                work()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        ends = os.pidfd_open(pid)
        select.select([ends], [], [], None if patience is None else self.random.random() * patience)
        os.kill(pid, signal.SIGKILL)  # no effect on a child that has ended
        os.close(ends)
        _, status = os.waitpid(pid, 0)
        killed = os.WIFSIGNALED(status)
        if not killed and status:
            raise SystemExit(f"a child failed with status {status} after {self.counts}")
        self.counts["kills"] += killed
        self.counts["half_written"] += killed and bool(self.unfinished() - before)
        if killed and self.counts["kills"] % 10 == 0:
            print(json.dumps({self.name: self.counts}), flush=True)
        return not killed


def train(campaign: Campaign, folder: Path, corpus: biorel.Corpus, encoder: biorel.Encoder) -> None:
    """Train with a checkpoint, and save at the end."""

    def work(name: str) -> None:
        run = biorel.finetune(corpus, encoder, checkpoint=folder / f"{name}.checkpoint", save_steps=2, **TRAINING)
        run.model.save(folder / name)

    start = time.monotonic()
    work("uninterrupted")
    patience = time.monotonic() - start
    wanted = digest(folder / "uninterrupted")
    while campaign.continues():
        patience = campaign.run_to_end(lambda: work("killed"), patience)
        if digest(folder / "killed") != wanted:
            raise SystemExit("a killed training run ended with different bits")
        campaign.counts["runs_with_the_same_bits"] += 1
        shutil.rmtree(folder / "killed")
        (folder / "killed.checkpoint").unlink()


def compare(campaign: Campaign, folder: Path, corpus: biorel.Corpus, encoder: biorel.Encoder) -> None:
    """Compare in a run directory."""

    def work(name: str) -> None:
        biorel.compare(corpus, directory=folder / name, encoders=[encoder], **GRID, **TRIALS)

    def rows(name: str) -> list:
        lines = [json.loads(line) for line in (folder / name / "trials.jsonl").read_text().splitlines()]
        if len({line["trial"] for line in lines}) != len(lines):
            raise SystemExit("a trial occurs twice")
        for line in lines:
            line.pop("seconds")
        return [*sorted(lines, key=lambda line: line["trial"]), digest(folder / name / "predictions")]

    start = time.monotonic()
    work("uninterrupted-runs")
    patience = time.monotonic() - start
    wanted = rows("uninterrupted-runs")
    while campaign.continues():
        patience = campaign.run_to_end(lambda: work("killed-runs"), patience)
        if rows("killed-runs") != wanted:
            raise SystemExit("a killed comparison ended with different rows")
        campaign.counts["runs_with_the_same_rows"] += 1
        shutil.rmtree(folder / "killed-runs")


def write_documents(folder: Path, corpus: biorel.Corpus) -> None:
    """Write two PubTator files of sample sentences, whose longest words are the entities."""
    texts = corpus.sentences("train")["text"].tolist()
    folder.mkdir()
    for file in range(2):
        chosen = {f"{file}{number:03}": texts[(file * DOCUMENTS + number) % len(texts)] for number in range(DOCUMENTS)}
        spans = []
        for document, text in chosen.items():
            for word in sorted(set(text.split(" ")), key=len)[-4:]:
                start = text.index(word)
                spans.append((document, start, start + len(word), "drug"))
        given = biorel.documents_from_tables(
            pd.DataFrame({"document": list(chosen), "text": list(chosen.values())}),
            pd.DataFrame(spans, columns=["document", "start", "end", "type"]),
        )
        path = folder / f"{file}.txt"
        biorel.write_documents(given, path)
        documents = path.read_text(encoding="utf-8").split("\n\n")
        for number in range(DOCUMENTS // 10):
            documents.insert(11 * number, f"9{number}|t|Bad\n9{number}\t0\t9\tBad\tdrug")
        path.write_text("\n\n".join(documents), encoding="utf-8")


def predict(campaign: Campaign, folder: Path, corpus: biorel.Corpus, encoder: biorel.Encoder) -> None:
    """Stream documents into each format, in parts of a few documents."""
    run = biorel.finetune(corpus, encoder, max_length=96, max_steps=1, progress=False, threads=1)
    run.model.save(folder / "predictor")
    model = biorel.load(folder / "predictor", threads=1)
    source = folder / "documents"
    write_documents(source, corpus)

    def work(name: str, format: str) -> None:
        biorel.predict_documents(model, source, folder / name, format=format, part_documents=PART, progress=False)

    wanted, patience = {}, {}
    for format in FORMATS:
        start = time.monotonic()
        work(f"uninterrupted-{format}", format)
        patience[format] = time.monotonic() - start
        wanted[format] = digest(folder / f"uninterrupted-{format}")
    while campaign.continues():
        for format in FORMATS:
            again = partial(work, "killed-relations", format)
            patience[format] = campaign.run_to_end(again, patience[format])
            # All files: relations, errors, the list of parts, the manifest.
            if digest(folder / "killed-relations") != wanted[format]:
                raise SystemExit(f"a killed prediction ended with different bytes ({format})")
            campaign.counts["runs_with_the_same_bytes"] += 1
            shutil.rmtree(folder / "killed-relations")


def save(campaign: Campaign, folder: Path, corpus: biorel.Corpus, encoder: biorel.Encoder) -> None:
    """Save two models alternately in one directory, and each under a new name."""
    settings = {"max_length": 96, "max_steps": 1, "progress": False}
    models = [biorel.finetune(corpus, encoder, seed=seed, **settings).model for seed in (1, 2)]
    complete = []
    for number, model in enumerate(models):
        path = folder / f"{number}" / "model"
        model.save(path)
        complete.append(digest(path))
    target, new = folder / "turns" / "model", folder / "new"
    models[0].save(target)

    def work() -> None:
        for number in range(1_000_000):
            models[number % 2].save(target)
            models[number % 2].save(new / str(number))

    while campaign.continues():
        campaign.child(work, 0.3)
        # If directories can be swapped atomically, no model is ever renamed.
        found = digest(target)
        if found not in complete:
            raise SystemExit("a killed save left a model that is neither of the two")
        campaign.counts["first" if found == complete[0] else "second"] += 1
        biorel.load(target)
        for path in new.iterdir() if new.exists() else ():
            if path.name.startswith("."):
                continue
            if digest(path) != complete[int(path.name) % 2]:
                raise SystemExit("a killed save left an incomplete model")
            campaign.counts["new"] += 1
        shutil.rmtree(new, ignore_errors=True)
        for path in target.parent.iterdir():
            if path != target:
                shutil.rmtree(path)


# Name, function and additional counts of each task.
TASKS = {
    "training": (train, ["runs_with_the_same_bits"]),
    "comparing": (compare, ["runs_with_the_same_rows"]),
    "predicting": (predict, ["runs_with_the_same_bytes"]),
    "saving": (save, ["first", "second", "new"]),
}


def main() -> None:
    """Run the campaigns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=600, help="approximate time limit")
    options = parser.parse_args()
    start = time.monotonic()
    found = {}
    with tempfile.TemporaryDirectory(prefix="biorel-kills-") as directory:
        corpus = biorel.load_sample("ddi")
        encoder = biorel.load_encoder(write_encoder(Path(directory) / "encoder"))
        for number, (name, (task, counted)) in enumerate(TASKS.items()):
            folder = Path(directory) / name
            folder.mkdir()
            campaign = Campaign(options.seed + number, folder)
            share = options.kills * (number + 1) // len(TASKS) - options.kills * number // len(TASKS)
            found[name] = campaign.begin(name, share, options.minutes / len(TASKS), *counted)
            task(campaign, folder, corpus, encoder)
    found["kills"] = sum(counts["kills"] for counts in found.values())
    found["seconds"] = round(time.monotonic() - start)
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
