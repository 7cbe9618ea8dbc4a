"""One setting of the PyTorch baseline on a GPU, in its own process: prints one line of JSON. side_by_side.py calls it.

    BIOREL_CORPORA=... python benchmarks/gpu/run_baseline.py train --encoder DIR --precision autocast --padding max

The model, the data and the order of the instances are those of benchmarks/speed/baseline_train.py. What is timed is whole steps after a
warm-up, with one wait for the GPU at the end: no step waits for its loss. Batches are padded beforehand, and lie in
pinned memory. `--padding grouped`: batches of similar length, as transformers' `group_by_length` makes them. `--compile
graphs` is torch.compile's mode `reduce-overhead`.
"""

import argparse
import contextlib
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "speed"))
try:
    import tokenizers
    import torch
    from aimed import read_pairs
    from baseline_train import Classifier, Encoded, epoch_batches
    from torch import nn
except ImportError as error:  # not a failure: this machine has only biorel
    print(json.dumps({"skipped": f"no PyTorch: {error}"}))
    sys.exit()

LENGTH = 128
MODES = {"compiled": None, "graphs": "reduce-overhead"}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "predict", "peak"])
    parser.add_argument("--encoder", type=Path, help="BERT directory")
    parser.add_argument("--precision", choices=["fp32", "autocast", "pure"], default="autocast")
    parser.add_argument("--padding", choices=["max", "longest", "grouped"], default="max")
    parser.add_argument("--compile", choices=["eager", *MODES], default="eager")
    parser.add_argument("--head", default="attention")
    parser.add_argument("--warmup", type=int, default=100, help="steps that are not timed")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--device", default="cuda", help="cpu tests this program")
    parser.add_argument("--trace", type=Path, help="write a trace of the timed steps, made by torch.profiler")
    return parser.parse_args()


def load(options: argparse.Namespace) -> tuple[nn.Module, Encoded]:
    model = Classifier(options.encoder, options.head, labels=2).to(options.device)
    if options.precision == "pure":
        model = model.to(torch.bfloat16)
    if options.compile != "eager":
        # Every length is a separate shape unless all are padded to one.
        model.compile(mode=MODES[options.compile], dynamic=options.padding != "max")
    pairs = read_pairs(Path(os.environ["BIOREL_CORPORA"]) / "aimed" / "aimed_pairs.tsv")
    tokenizer = tokenizers.Tokenizer.from_file(str(options.encoder / "tokenizer.json"))
    return model, Encoded([pair for pair in pairs if pair.fold != 0], tokenizer, LENGTH)


def autocast(options: argparse.Namespace) -> torch.autocast:
    return torch.autocast(options.device, dtype=torch.bfloat16, enabled=options.precision == "autocast")


def pinned(options: argparse.Namespace, tensors) -> list[torch.Tensor]:
    return [tensor.pin_memory() if options.device == "cuda" else tensor for tensor in tensors]


def wait(options: argparse.Namespace) -> None:
    if options.device == "cuda":
        torch.cuda.synchronize()


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
    inputs = [pinned(options, data.pad(batch, length)) for batch in batches]

    def step(batch: list[torch.Tensor]) -> None:
        ids, mask, labels = (tensor.to(options.device, non_blocking=True) for tensor in batch)
        with autocast(options):
            loss = nn.functional.cross_entropy(model(ids, mask), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for batch in inputs[: options.warmup]:
        step(batch)
    wait(options)
    profiler = torch.profiler.profile() if options.trace else contextlib.nullcontext()
    with profiler:
        started = time.perf_counter()
        for batch in inputs[options.warmup :]:
            step(batch)
        wait(options)
        seconds = time.perf_counter() - started
    if options.trace:
        profiler.export_chrome_trace(str(options.trace))
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
    order = order[: 64 * (options.warmup + options.steps)]  # all, unless this is a test
    inputs = [data.pad(order[start : start + 64], None)[:2] for start in range(0, len(order), 64)]
    inputs = [pinned(options, batch) for batch in inputs]

    def run() -> None:
        with torch.inference_mode(), autocast(options):
            logits = [model(*(x.to(options.device, non_blocking=True) for x in batch)) for batch in inputs]
        torch.cat(logits).argmax(1).tolist()

    run()
    started = time.perf_counter()
    run()
    seconds = time.perf_counter() - started
    return {
        "sentences": len(order),
        "tokens": sum(len(data.ids[i]) for i in order),
        "steps": len(inputs),
        "seconds": seconds,
    }


def peak(options: argparse.Namespace) -> dict[str, float]:
    """TFLOP/s of one large bf16 product, the reference of the shares."""
    size, repeats = (8192, 50) if options.device == "cuda" else (256, 2)
    a, b = (torch.randn(size, size, device=options.device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(10):
        a @ b
    wait(options)
    started = time.perf_counter()
    for _ in range(repeats):
        a @ b
    wait(options)
    return {"tflops": repeats * 2 * size**3 / (time.perf_counter() - started) / 1e12}


def main() -> None:
    options = parse_arguments()
    if options.device == "cuda" and not torch.cuda.is_available():
        print(json.dumps({"skipped": "no device: torch.cuda.is_available() is False"}))
        return
    result = {"peak": peak, "train": train, "predict": predict}[options.what](options)
    if options.device == "cuda":
        result["torch_peak_mb"] = round(torch.cuda.max_memory_reserved() / 1e6)
        result["device"] = torch.cuda.get_device_name()
    print(json.dumps({**result, "torch": torch.__version__, "cuda": torch.version.cuda}))


if __name__ == "__main__":
    main()
