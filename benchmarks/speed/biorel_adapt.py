"""Continued masked-language-model training with biorel, on texts with one text a line; its last line is JSON.

python benchmarks/speed/biorel_adapt.py texts.txt --steps 16 --precision f32
"""

import argparse
import json
import os
import resource

import biorel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", help="a file with one text a line")
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--steps", type=int, default=16, help="measure so many after two to warm up")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    adapted = biorel.adapt(
        options.encoder,
        options.texts,
        held_out=0,
        batch_size=options.batch_size,
        max_length=options.max_length,
        max_steps=options.steps + 2,
        precision=options.precision,
        threads=options.threads,
        progress=False,
    )
    measured = adapted.history[2:]
    pieces, seconds = int(measured["tokens"].sum()), float(measured["seconds"].sum())
    record = {
        "steps": len(measured),
        "pieces": pieces,
        "seconds": round(seconds, 3),
        "pieces_per_second": round(pieces / seconds, 1),
        "texts_per_second": round(pieces / seconds * adapted.texts / adapted.pieces, 2),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
