"""Damage the files that Python reads, for as long as you like: options, directories of streams, sentences.

    python benchmarks/reliability/damage.py --minutes 10 --seed 1

Prints a line of JSON with the inputs and the processor time of each target, and what was raised that should not be; each
failure can be had again from its target and number (`tests/python/damaged.py`).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "python"))

import biorel
from damaged import TARGETS, Files
from tiny_bert import write_encoder


def main() -> None:
    """Damage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10, help="of each target")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory(prefix="biorel-damage-") as place:
        folder = Path(place)
        encoder = biorel.load_encoder(write_encoder(folder / "encoder"))
        settings = {"max_length": 96, "max_steps": 1, "progress": False, "threads": 1}
        files = Files(folder, biorel.finetune(biorel.load_sample("ddi"), encoder, **settings).model)
        for name, target in TARGETS.items():
            inputs, failures = 0, []
            began, processor = time.monotonic(), time.process_time()
            while time.monotonic() - began < options.minutes * 60:
                number = options.seed * 10**9 + inputs
                try:
                    target(files, Random(number))
                except Exception:
                    failures.append(number)
                    traceback.print_exc()
                inputs += 1
            spent = {"processor_seconds": round(time.process_time() - processor), "failures": failures}
            print(json.dumps({"target": name, "inputs": inputs, **spent}), flush=True)
            failed |= bool(failures)
    sys.exit(failed)


if __name__ == "__main__":
    main()
