"""Predict for a long time and watch the memory: it must not grow.

    python benchmarks/reliability/soak.py --minutes 60 --output soak.tsv

Each round predicts sentences of changing number and length, and every tenth saves and loads the model. The table has
seconds, rounds, and resident memory in MiB; the last line on standard error compares the second half with the first.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "python"))

import biorel
from tiny_bert import write_encoder


def resident() -> float:
    """Resident memory of this process in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("/proc/self/status has no VmRSS")


def main() -> None:
    """Soak."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    numbers = random.Random(1)
    corpus = biorel.load_sample("ddi")
    table = []
    with tempfile.TemporaryDirectory(prefix="biorel-soak-") as folder:
        encoder = biorel.load_encoder(write_encoder(Path(folder) / "encoder"))
        model = biorel.finetune(corpus, encoder, max_length=96, max_steps=1, progress=False).model
        began, rounds = time.monotonic(), 0
        while (passed := time.monotonic() - began) < options.minutes * 60:
            if rounds % 10 == 0:
                model.save(Path(folder) / "model")
                model = biorel.load(Path(folder) / "model")
            if rounds % 50 == 0:
                table.append((passed, rounds, resident()))
            sentences = []
            for _ in range(numbers.randint(1, 100)):
                filler = "w " * numbers.randint(0, 80)
                entities = [
                    {"start": 0, "end": 3, "type": "drug"},
                    {"start": 4 + len(filler), "end": 7 + len(filler), "type": "drug"},
                ]
                sentences.append({"text": f"aaa {filler}bbb", "entities": entities})
            if len(model.predict(sentences)) != len(sentences):
                raise SystemExit("rows were lost")
            rounds += 1
    lines = ["seconds\trounds\tresident_mib", *(f"{s:.1f}\t{n}\t{m:.1f}" for s, n, m in table)]
    options.output.write_text("\n".join(lines) + "\n")
    # The first tenth warms up.
    memory = [row[2] for row in table[len(table) // 10 :]]
    half = len(memory) // 2
    first, second = statistics.mean(memory[:half]), statistics.mean(memory[half:])
    print(f"{rounds} rounds; mean resident memory {first:.1f} MiB, then {second:.1f} MiB", file=sys.stderr)


if __name__ == "__main__":
    main()
