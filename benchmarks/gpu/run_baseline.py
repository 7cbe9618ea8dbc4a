"""One setting of the PyTorch baseline on a GPU, in its own process: prints one line of JSON. side_by_side.py calls it.

    BIOREL_CORPORA=... python benchmarks/gpu/run_baseline.py train --encoder DIR --precision autocast --padding max

The model, the data and the order of the instances are those of benchmarks/speed/baseline_train.py. What is timed is whole steps after a
warm-up, with one wait for the GPU at the end: no step waits for its loss. Batches are padded beforehand, and lie in
pinned memory.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import tokenizers
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "speed"))
from aimed import read_pairs
from baseline_train import Classifier, Encoded, epoch_batches

LENGTH = 128


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "predict", "peak", "bert-base"])
    parser.add_argument("--encoder", type=Path, help="BERT directory; for bert-base: where to write one")
    parser.add_argument("--tokenizer", type=Path, help="for bert-base: the directory to take the vocabulary from")
    parser.add_argument("--precision", choices=["fp32", "autocast", "pure"], default="autocast")
    parser.add_argument("--padding", choices=["max", "longest", "grouped"], default="max")
    parser.add_argument("--compile", choices=["no", "default", "reduce-overhead"], default="no")
    parser.add_argument("--head", default="attention")
    parser.add_argument("--warmup", type=int, default=20, help="steps that are not timed")
    parser.add_argument("--steps", type=int, default=50)
    return parser.parse_args()


def load(options: argparse.Namespace) -> tuple[nn.Module, Encoded]:
    model = Classifier(options.encoder, options.head, labels=2).cuda()
    if options.precision == "pure":
        model = model.to(torch.bfloat16)
    if options.compile != "no":
        mode = None if options.compile == "default" else options.compile
        # Every length is a separate shape unless all are padded to one.
        model.compile(mode=mode, dynamic=options.padding != "max")
    pairs = read_pairs(Path(os.environ["BIOREL_CORPORA"]) / "aimed" / "aimed_pairs.tsv")
    tokenizer = tokenizers.Tokenizer.from_file(str(options.encoder / "tokenizer.json"))
    return model, Encoded([pair for pair in pairs if pair.fold != 0], tokenizer, LENGTH)


def autocast(options: argparse.Namespace) -> torch.autocast:
    return torch.autocast("cuda", dtype=torch.bfloat16, enabled=options.precision == "autocast")


def train(options: argparse.Namespace) -> dict[str, float]:
    model, data = load(options)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, weight_decay=0.01, fused=True)
    order = torch.Generator().manual_seed(1)
    batches: list[list[int]] = []
    while len(batches) < options.warmup + options.steps:
        batches += epoch_batches(data, 32, options.padding == "grouped", order)
    if options.padding == "grouped":  # a block starts with its longest batch: take steps from the whole epoch
        chosen = torch.randperm(len(batches), generator=order).tolist()
        batches = [batches[i] for i in chosen]
    batches = batches[: options.warmup + options.steps]
    length = LENGTH if options.padding == "max" else None
    inputs = [[tensor.pin_memory() for tensor in data.pad(batch, length)] for batch in batches]

    def step(batch: list[torch.Tensor]) -> None:
        ids, mask, labels = (tensor.cuda(non_blocking=True) for tensor in batch)
        with autocast(options):
            loss = nn.functional.cross_entropy(model(ids, mask), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for batch in inputs[: options.warmup]:
        step(batch)
    torch.cuda.synchronize()
    started = time.perf_counter()
    for batch in inputs[options.warmup :]:
        step(batch)
    torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    timed = batches[options.warmup :]
    return {
        "sentences": sum(map(len, timed)),
        "tokens": sum(len(data.ids[i]) for batch in timed for i in batch),
        "steps": len(timed),
        "seconds": seconds,
    }


def predict(options: argparse.Namespace) -> dict[str, float]:
    """Classes of all sentences, sorted by length in batches of 64; the texts are already word pieces."""
    model, data = load(options)
    model.eval()
    order = sorted(range(len(data)), key=lambda i: len(data.ids[i]))
    inputs = [data.pad(order[start : start + 64], None)[:2] for start in range(0, len(order), 64)]
    inputs = [[tensor.pin_memory() for tensor in batch] for batch in inputs]

    def run() -> None:
        with torch.inference_mode(), autocast(options):
            logits = [model(*(tensor.cuda(non_blocking=True) for tensor in batch)) for batch in inputs]
        torch.cat(logits).argmax(1).tolist()

    run()
    started = time.perf_counter()
    run()
    seconds = time.perf_counter() - started
    return {"sentences": len(data), "tokens": sum(map(len, data.ids)), "steps": len(inputs), "seconds": seconds}


def peak() -> dict[str, float]:
    """TFLOP/s of one large bf16 product, the reference of the shares."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(10):
        a @ b
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(50):
        a @ b
    torch.cuda.synchronize()
    return {"tflops": 50 * 2 * 8192**3 / (time.perf_counter() - started) / 1e12}


def write_bert_base(folder: Path, tokenizer: Path) -> dict[str, float]:
    """A BERT-base with random weights, which is as fast as the real one."""
    import shutil

    from transformers import BertConfig, BertModel

    torch.manual_seed(1)
    BertModel(BertConfig()).save_pretrained(folder)
    for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json"):
        if (tokenizer / name).exists():
            shutil.copy(tokenizer / name, folder / name)
    return {}


def main() -> None:
    options = parse_arguments()
    if options.what == "peak":
        result = peak()
    elif options.what == "bert-base":
        result = write_bert_base(options.encoder, options.tokenizer)
    else:
        result = train(options) if options.what == "train" else predict(options)
    result["torch_peak_mb"] = torch.cuda.max_memory_reserved() / 1e6
    print(json.dumps({**result, "torch": torch.__version__, "cuda": torch.version.cuda}))


if __name__ == "__main__":
    main()
