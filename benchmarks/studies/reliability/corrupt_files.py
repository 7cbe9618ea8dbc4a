"""Corrupt the files that Python reads, for any length of time: options, directories of streams, sentences.

    python benchmarks/studies/reliability/corrupt_files.py --minutes 10 --seed 1

Prints one line of JSON per target: the inputs, the processor time, and the numbers of inputs that raised an unexpected error.
Target and number reproduce a failure (`tests/python/corrupt.py`).
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

sys.path.insert(0, str(Path(__file__).parents[3] / "tests" / "python"))

import biorel
from corrupt import TARGETS, Files
from tiny_bert import write_encoder


def main() -> None:
    """Corrupt."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10, help="minutes per target")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory(prefix="biorel-corrupt-") as place:
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
