"""Kill biorel with SIGKILL again and again, while it trains, compares, predicts and saves, and look at what is left.

    python benchmarks/studies/reliability/kills.py --kills 1000 --seed 1

Children are forked from this process, which has everything loaded, and killed at a random moment of their whole run. A
killed training, comparison or prediction of documents is started again until it ends, and must end with the bits and rows
of one that was never killed. A model that is saved over an earlier one must be one of the two, whole, at every moment; one
that is saved under a new name is whole or not there. Each kind gets a quarter of the kills. Writes a line of JSON every ten
kills, and the totals at the end; `half_written` counts the kills that hit a file or folder while it was written. Any
difference is an error.
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
TRIALS = {"max_length": 96, "max_steps": 10, "state_every": 2, "threads": 1}
# Documents in each file, and how many in a part; every eleventh is bad.
DOCUMENTS, PART = 44, 3
FORMATS = ("jsonl", "parquet", "tsv", "bioc-json", "pubtator")


def digest(path: Path) -> str:
    """Hash of all files of a folder with their names, without the card, which has the folder's own name in it."""
    found = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file() and file.name != "README.md":
            found.update(str(file.relative_to(path)).encode() + b"\0" + file.read_bytes())
    return found.hexdigest()


class Campaign:
    """Children, kills, and how long a child lives at most before it is killed."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.random = random.Random(seed)
        self.folder = folder
        self.counts = {"kills": 0, "half_written": 0}
        self.name = ""
        self.goal = 0
        self.stop = float("inf")

    def begin(self, name: str, kills: int, minutes: float, *kinds: str) -> dict[str, int]:
        """The next kind: so many kills, or as many as the time allows. Returns its counts."""
        self.name, self.goal, self.stop = name, kills, time.monotonic() + minutes * 60
        self.counts = dict.fromkeys(["kills", "half_written", *kinds], 0)
        return self.counts

    def unfinished(self) -> set[tuple[Path, int]]:
        """Half-written files and folders, and when they were changed."""
        return {(path, path.stat().st_mtime_ns) for path in self.folder.rglob(".*.partial*")}

    def goes_on(self) -> bool:
        """Whether there is more to kill."""
        return self.counts["kills"] < self.goal and time.monotonic() < self.stop

    def until_it_ends(self, work: Callable[[], object], patience: float) -> float:
        """Kill `work` and start it again until it ends; once enough were killed, it is left to end.

        Returns the patience for the next run: how long a run takes changes with what else the machine does.
        """
        began = time.monotonic()
        while not self.child(work, patience if self.goes_on() else None):
            pass
        return (patience + time.monotonic() - began) / 2

    def child(self, work: Callable[[], object], patience: float | None) -> bool:
        """Run `work` in a child, and kill it after a random time below `patience`, if any; whether it ended by itself."""
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
        os.kill(pid, signal.SIGKILL)  # of one that has ended, nothing comes
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
    """Training with a state, and saving at its end."""

    def work(name: str) -> None:
        run = biorel.finetune(corpus, encoder, state=folder / f"{name}.state", state_every=2, **TRAINING)
        run.model.save(folder / name)

    began = time.monotonic()
    work("whole")
    patience = time.monotonic() - began
    wanted = digest(folder / "whole")
    while campaign.goes_on():
        patience = campaign.until_it_ends(lambda: work("killed"), patience)
        if digest(folder / "killed") != wanted:
            raise SystemExit("a killed training ended with other bits")
        campaign.counts["runs_with_the_same_bits"] += 1
        shutil.rmtree(folder / "killed")
        (folder / "killed.state").unlink()


def compare(campaign: Campaign, folder: Path, corpus: biorel.Corpus, encoder: biorel.Encoder) -> None:
    """A comparison in a directory."""

    def work(name: str) -> None:
        biorel.compare(corpus, directory=folder / name, encoders=[encoder], **GRID, **TRIALS)

    def rows(name: str) -> list:
        lines = [json.loads(line) for line in (folder / name / "trials.jsonl").read_text().splitlines()]
        if len({line["trial"] for line in lines}) != len(lines):
            raise SystemExit("a trial is there twice")
        for line in lines:
            line.pop("seconds")
        return [*sorted(lines, key=lambda line: line["trial"]), digest(folder / name / "predictions")]

    began = time.monotonic()
    work("whole-runs")
    patience = time.monotonic() - began
    wanted = rows("whole-runs")
    while campaign.goes_on():
        patience = campaign.until_it_ends(lambda: work("killed-runs"), patience)
        if rows("killed-runs") != wanted:
            raise SystemExit("a killed comparison ended with other rows")
        campaign.counts["runs_with_the_same_rows"] += 1
        shutil.rmtree(folder / "killed-runs")


def write_documents(folder: Path, corpus: biorel.Corpus) -> None:
    """Two PubTator files of sentences of the sample, whose longest words are the entities."""
    texts = corpus.sentences("train")["text"].tolist()
    folder.mkdir()
    for file in range(2):
        chosen = {f"{file}{number:03}": texts[(file * DOCUMENTS + number) % len(texts)] for number in range(DOCUMENTS)}
        places = []
        for document, text in chosen.items():
            for word in sorted(set(text.split(" ")), key=len)[-4:]:
                start = text.index(word)
                places.append((document, start, start + len(word), "drug"))
        made = biorel.documents_from_tables(
            pd.DataFrame({"document": list(chosen), "text": list(chosen.values())}),
            pd.DataFrame(places, columns=["document", "start", "end", "type"]),
        )
        path = folder / f"{file}.txt"
        biorel.write_documents(made, path)
        documents = path.read_text(encoding="utf-8").split("\n\n")
        for number in range(DOCUMENTS // 10):
            documents.insert(11 * number, f"9{number}|t|Bad\n9{number}\t0\t9\tBad\tdrug")
        path.write_text("\n\n".join(documents), encoding="utf-8")


def predict(campaign: Campaign, folder: Path, corpus: biorel.Corpus, encoder: biorel.Encoder) -> None:
    """A stream of documents into each format, parts of a few documents."""
    run = biorel.finetune(corpus, encoder, max_length=96, max_steps=1, progress=False, threads=1)
    run.model.save(folder / "predictor")
    model = biorel.load(folder / "predictor", threads=1)
    source = folder / "documents"
    write_documents(source, corpus)

    def work(name: str, format: str) -> None:
        biorel.predict_documents(model, source, folder / name, format=format, part_documents=PART, progress=False)

    wanted, patience = {}, {}
    for format in FORMATS:
        began = time.monotonic()
        work(f"whole-{format}", format)
        patience[format] = time.monotonic() - began
        wanted[format] = digest(folder / f"whole-{format}")
    while campaign.goes_on():
        for format in FORMATS:
            again = partial(work, "killed-relations", format)
            patience[format] = campaign.until_it_ends(again, patience[format])
            # All files: relations, errors, the list of parts, the manifest.
            if digest(folder / "killed-relations") != wanted[format]:
                raise SystemExit(f"a killed prediction ended with other rows ({format})")
            campaign.counts["runs_with_the_same_bytes"] += 1
            shutil.rmtree(folder / "killed-relations")


def save(campaign: Campaign, folder: Path, corpus: biorel.Corpus, encoder: biorel.Encoder) -> None:
    """Two models that take turns in one directory, and each also under a new name."""
    settings = {"max_length": 96, "max_steps": 1, "progress": False}
    models = [biorel.finetune(corpus, encoder, seed=seed, **settings).model for seed in (1, 2)]
    whole = []
    for number, model in enumerate(models):
        place = folder / f"{number}" / "model"
        model.save(place)
        whole.append(digest(place))
    target, new = folder / "turns" / "model", folder / "new"
    models[0].save(target)

    def work() -> None:
        for number in range(1_000_000):
            models[number % 2].save(target)
            models[number % 2].save(new / str(number))

    while campaign.goes_on():
        campaign.child(work, 0.3)
        # A model that was moved aside would not be found here: where folders can be exchanged, there is none.
        found = digest(target)
        if found not in whole:
            raise SystemExit("a killed save left a model that is neither")
        campaign.counts["first" if found == whole[0] else "second"] += 1
        biorel.load(target)
        for path in new.iterdir() if new.exists() else ():
            if path.name.startswith("."):
                continue
            if digest(path) != whole[int(path.name) % 2]:
                raise SystemExit("a killed save left half a model")
            campaign.counts["new"] += 1
        shutil.rmtree(new, ignore_errors=True)
        for path in target.parent.iterdir():
            if path != target:
                shutil.rmtree(path)


# The name of each kind, what it does, and what it counts besides kills.
KINDS = {
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
    parser.add_argument("--minutes", type=float, default=600, help="the longest it takes, about")
    options = parser.parse_args()
    began = time.monotonic()
    found = {}
    with tempfile.TemporaryDirectory(prefix="biorel-kills-") as place:
        corpus = biorel.load_sample("ddi")
        encoder = biorel.load_encoder(write_encoder(Path(place) / "encoder"))
        for number, (name, (kind, counted)) in enumerate(KINDS.items()):
            folder = Path(place) / name
            folder.mkdir()
            campaign = Campaign(options.seed + number, folder)
            share = options.kills * (number + 1) // len(KINDS) - options.kills * number // len(KINDS)
            found[name] = campaign.begin(name, share, options.minutes / len(KINDS), *counted)
            kind(campaign, folder, corpus, encoder)
    found["kills"] = sum(counts["kills"] for counts in found.values())
    found["seconds"] = round(time.monotonic() - began)
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
