"""Kill biorel with SIGKILL again and again, while it trains, compares and saves, and look at what is left.

    python benchmarks/reliability/kills.py --kills 1000 --seed 1

Children are forked from this process, which has everything loaded, and killed at a random moment. A killed training and
a killed comparison are started again until they end, and must end with the bits and rows of one that was never killed.
A model that is saved over an earlier one must be one of the two, whole, at every moment. Each kind gets a third of the
kills. Writes one line of JSON; any difference is an error.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "python"))

# The children are forked after this process has computed.
os.environ["CANDLE_NUM_THREADS"] = "1"

import biorel
from tiny_bert import write_encoder

TRAINING = {"head": "lstm", "max_length": 96, "max_steps": 120, "seed": 3, "progress": False, "threads": 1}
GRID = {"heads": ["cls", "attention"], "seeds": [1, 2], "progress": False}
TRIALS = {"max_length": 96, "max_steps": 30, "state_every": 3, "threads": 1}


def digest(path: Path) -> str:
    """Hash of all files of a folder with their names, without the card, which has the folder's own name in it."""
    found = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file() and file.name != "README.md":
            found.update(str(file.relative_to(path)).encode() + b"\0" + file.read_bytes())
    return found.hexdigest()


class Campaign:
    """Children, kills, and how long a child lives at most before it is killed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.kills = 0
        self.goal = 0
        self.stop = float("inf")

    def begin(self, kills: int, minutes: float) -> None:
        """The next kind: so many kills, or as many as the time allows."""
        self.goal, self.stop = self.kills + kills, time.monotonic() + minutes * 60

    def goes_on(self) -> bool:
        """Whether there is more to kill."""
        return self.kills < self.goal and time.monotonic() < self.stop

    def until_it_ends(self, work: Callable[[], object], patience: float) -> bool:
        """Kill `work` and start it again until it ends; once enough were killed, it is left to end."""
        while not self.child(work, patience if self.goes_on() else float("inf")):
            pass
        return True

    def child(self, work: Callable[[], object], patience: float) -> bool:
        """Run `work` in a child, and kill it after a random time below `patience`; whether it ended by itself."""
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                work()
                code = 0
            finally:
                os._exit(code)
        deadline = time.monotonic() + self.random.random() * patience
        while time.monotonic() < deadline:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                if status:
                    raise SystemExit(f"a child failed with status {status}")
                return True
            time.sleep(0.0005)
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        killed = os.WIFSIGNALED(status)
        if not killed and status:
            raise SystemExit(f"a child failed with status {status}")
        self.kills += killed
        return not killed


def train(campaign: Campaign, folder: Path, corpus: biorel.Corpus, encoder: biorel.Encoder) -> dict:
    """Training with a state, and saving at its end."""

    def work(name: str) -> None:
        run = biorel.finetune(corpus, encoder, state=folder / f"{name}.state", state_every=2, **TRAINING)
        run.model.save(folder / name)

    began = time.monotonic()
    work("whole")
    patience = time.monotonic() - began
    wanted, ended = digest(folder / "whole"), 0
    while campaign.goes_on():
        campaign.until_it_ends(lambda: work("killed"), patience)
        if digest(folder / "killed") != wanted:
            raise SystemExit("a killed training ended with other bits")
        ended += 1
        shutil.rmtree(folder / "killed")
        (folder / "killed.state").unlink()
    return {"runs_with_the_same_bits": ended}


def compare(campaign: Campaign, folder: Path, corpus: biorel.Corpus, encoder: biorel.Encoder) -> dict:
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
    wanted, ended = rows("whole-runs"), 0
    while campaign.goes_on():
        campaign.until_it_ends(lambda: work("killed-runs"), patience)
        if rows("killed-runs") != wanted:
            raise SystemExit("a killed comparison ended with other rows")
        ended += 1
        shutil.rmtree(folder / "killed-runs")
    return {"comparisons_with_the_same_rows": ended}


def save(campaign: Campaign, folder: Path, corpus: biorel.Corpus, encoder: biorel.Encoder) -> dict:
    """Two models that take turns in one directory."""
    models = [
        biorel.finetune(corpus, encoder, max_length=96, max_steps=1, seed=seed, progress=False).model for seed in (1, 2)
    ]
    whole = []
    for number, model in enumerate(models):
        place = folder / f"{number}" / "model"
        model.save(place)
        whole.append(digest(place))
    target = folder / "turns" / "model"
    models[0].save(target)

    def work() -> None:
        while True:
            for model in models:
                model.save(target)

    counts = {"first": 0, "second": 0, "moved_aside": 0}
    while campaign.goes_on():
        campaign.child(work, 0.1)
        if target.exists():
            counts["first" if digest(target) == whole[0] else "second"] += 1
            if digest(target) not in whole:
                raise SystemExit("a killed save left a model that is neither")
            biorel.load(target)
        else:
            # Between its two renames the earlier model lies beside, under a hidden name.
            beside = [path for path in target.parent.iterdir() if ".old-" in path.name]
            if [digest(path) in whole for path in beside] != [True]:
                raise SystemExit("a killed save left no whole model")
            counts["moved_aside"] += 1
        for path in target.parent.iterdir():
            if path != target:
                shutil.rmtree(path)
        models[0].save(target)
    return counts


def main() -> None:
    """Run the three campaigns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=600, help="the longest it takes, about")
    options = parser.parse_args()
    began = time.monotonic()
    campaign = Campaign(options.seed)
    with tempfile.TemporaryDirectory(prefix="biorel-kills-") as place:
        folder = Path(place)
        corpus = biorel.load_sample("ddi")
        encoder = biorel.load_encoder(write_encoder(folder / "encoder"))
        kinds = {"training": train, "comparing": compare, "saving": save}
        found = {}
        for number, (name, kind) in enumerate(kinds.items()):
            share = options.kills * (number + 1) // len(kinds) - options.kills * number // len(kinds)
            before = campaign.kills
            campaign.begin(share, options.minutes / len(kinds))
            counts = kind(campaign, folder, corpus, encoder)
            found[name] = {"kills": campaign.kills - before, **counts}
            print(json.dumps({name: found[name]}), file=sys.stderr, flush=True)
    found["kills"] = campaign.kills
    found["seconds"] = round(time.monotonic() - began)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
