"""Soak test: train, predict, stream, save and load for a long time; the memory must not grow.

    python benchmarks/studies/reliability/soak.py --minutes 60 --output soak.tsv

Every round predicts sentences of varying number and length; other work is due every few rounds (`EVERY`). The table has
seconds, counts of the work so far, and resident memory in MiB; it is written continuously. The last line on standard error
compares the last quarter with the second; the first is warm-up. `docs/figures/make_figures.py` plots the table.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "tests" / "python"))

import biorel
import pandas as pd
from tiny_bert import write_encoder

# Rounds between two executions of each task, and seconds between two rows of the table.
EVERY = {"saves_and_loads": 10, "document_streams": 15, "trainings": 20, "corpora": 25, "comparisons": 100}
INTERVAL = 5.0


def resident() -> float:
    """Resident memory of this process in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("/proc/self/status has no VmRSS")


class Soak:
    """The tasks to repeat, each time with new random numbers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.numbers = random.Random(1)
        self.corpus = biorel.load_sample("ddi")
        self.encoder = biorel.load_encoder(write_encoder(folder / "encoder"))
        self.model = biorel.finetune(self.corpus, self.encoder, max_length=96, max_steps=1, progress=False).model
        self.texts = self.corpus.sentences("train")["text"].tolist()

    def predictions(self) -> None:
        sentences = []
        for _ in range(self.numbers.randint(1, 100)):
            filler = "w " * self.numbers.randint(0, 80)
            start = 4 + len(filler)
            entities = [{"start": 0, "end": 3, "type": "drug"}, {"start": start, "end": start + 3, "type": "drug"}]
            sentences.append({"text": f"aaa {filler}bbb", "entities": entities})
        if len(self.model.predict(sentences)) != len(sentences):
            raise SystemExit("rows were lost")

    def saves_and_loads(self) -> None:
        self.model.save(self.folder / "model")
        self.model = biorel.load(self.folder / "model")

    def document_streams(self) -> None:
        count = self.numbers.randint(5, 60)
        texts = [" ".join(self.numbers.choices(self.texts, k=self.numbers.randint(1, 6))) for _ in range(count)]
        places = []
        for number, text in enumerate(texts):
            for word in sorted(set(text.split(" ")), key=len)[-4:]:
                start = text.index(word)
                places.append((str(number), start, start + len(word), "drug"))
        documents = biorel.documents_from_tables(
            pd.DataFrame({"document": [str(number) for number in range(count)], "text": texts}),
            pd.DataFrame(places, columns=["document", "start", "end", "type"]),
        )
        source = self.folder / "documents.json"
        output = self.folder / "relations"
        biorel.write_documents(documents, source)
        format = self.numbers.choice(["jsonl", "tsv", "parquet", "bioc-json"])
        done = biorel.predict_documents(self.model, source, output, format=format, part_documents=20, progress=False)
        if (done.documents, done.failed) != (count, 0):
            raise SystemExit("documents were lost")
        shutil.rmtree(output)

    def trainings(self) -> None:
        head = self.numbers.choice(["cls", "lstm", "attention", "attention-all-cls"])
        steps = self.numbers.randint(1, 6)
        checkpoint = self.folder / "checkpoint"
        biorel.finetune(
            self.corpus,
            self.encoder,
            head=head,
            max_length=96,
            max_steps=steps,
            checkpoint=checkpoint,
            save_steps=2,
            progress=False,
        )
        checkpoint.unlink()

    def corpora(self) -> None:
        self.corpus = biorel.load_sample("ddi")
        self.encoder = biorel.load_encoder(self.folder / "encoder")

    def comparisons(self) -> None:
        output = self.folder / "runs"
        settings = {"max_length": 96, "max_steps": 2, "progress": False}
        biorel.compare(self.corpus, encoders=[self.encoder], heads=["cls", "attention"], directory=output, **settings)
        shutil.rmtree(output)


def main() -> None:
    """Soak."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--busy", type=float, default=1.0, help="share of the time to work; sleep for the rest")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    memory = []
    with tempfile.TemporaryDirectory(prefix="biorel-soak-") as folder, options.output.open("w") as table:
        soak = Soak(Path(folder))
        counts = dict.fromkeys(["rounds", *EVERY], 0)
        print("seconds", *counts, "resident_mib", sep="\t", file=table)
        began, due = time.monotonic(), 0.0
        while (passed := time.monotonic() - began) < options.minutes * 60:
            if passed >= due:
                memory.append(resident())
                print(f"{passed:.1f}", *counts.values(), f"{memory[-1]:.1f}", sep="\t", file=table, flush=True)
                due = passed + INTERVAL
            for name, every in EVERY.items():
                if counts["rounds"] % every == 0:
                    work: Callable[[], None] = getattr(soak, name)
                    work()
                    counts[name] += 1
            soak.predictions()
            counts["rounds"] += 1
            time.sleep((time.monotonic() - began - passed) * (1 / options.busy - 1))
    quarter = len(memory) // 4
    second, last = statistics.mean(memory[quarter : 2 * quarter]), statistics.mean(memory[-quarter:])
    done = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())
    print(
        f"{done}; mean resident memory {second:.1f} MiB in the second quarter, {last:.1f} in the last", file=sys.stderr
    )


if __name__ == "__main__":
    main()
