"""Inference of MiniLM with biorel, PyTorch and ONNX Runtime, side by side in one run: sentences a second.

    BIOREL_CORPORA=... python benchmarks/inference.py --peer /tmp/peer/bin/python --output benchmarks/results/inference.txt

Run it with the Python that has biorel; `--peer` is the one that has PyTorch, transformers and ONNX Runtime. Every measurement
is a process of its own, and the programs take turns. Timed are word pieces and last hidden states of AIMed sentences,
after a warm-up on some of them; loading the model is not. The peers read the sentences sorted by length in batches of
64, which is their best; biorel does as it does by itself.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from aimed import read_pairs
from runlog import cpu_features, cpu_name, load_average

PROGRAMS = ["biorel f32", "PyTorch fp32", "PyTorch bf16 autocast", "PyTorch bf16", "ONNX Runtime fp32"]
BATCH = 64


def with_biorel(texts: list[str]):
    import biorel

    encoder = biorel.load_encoder("minilm")
    return lambda: encoder.encode(texts)


def with_peer(program: str, texts: list[str]):
    import torch
    from peer_train import minilm_folder
    from transformers import AutoTokenizer, BertModel

    folder = minilm_folder()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    if program == "PyTorch bf16":
        model = model.to(torch.bfloat16)

    def batches():
        ordered = sorted(texts, key=len)
        for start in range(0, len(ordered), BATCH):
            yield tokenizer(ordered[start : start + BATCH], padding=True, return_tensors="pt")

    def with_torch() -> None:
        autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=program == "PyTorch bf16 autocast")
        with torch.inference_mode(), autocast:
            for batch in batches():
                model(**batch)

    if program != "ONNX Runtime fp32":
        return with_torch

    import onnxruntime

    class States(torch.nn.Module):
        """BertModel with plain arguments and one result, which is what the exporter takes."""

        def __init__(self):
            super().__init__()
            self.bert = model

        def forward(self, input_ids, attention_mask, token_type_ids):
            inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
            return self.bert(**inputs, return_dict=False)[0]

    path = str(Path(tempfile.mkdtemp()) / "minilm.onnx")
    example = tokenizer(["a sentence", "another, longer sentence"], padding=True, return_tensors="pt")
    names = ["input_ids", "attention_mask", "token_type_ids"]
    axes = {name: {0: "batch", 1: "length"} for name in [*names, "states"]}
    arguments = tuple(example[name] for name in names)
    settings = {"input_names": names, "output_names": ["states"], "dynamic_axes": axes, "dynamo": False}
    torch.onnx.export(States().eval(), arguments, path, **settings)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def with_onnx() -> None:
        for batch in batches():
            session.run(None, {name: batch[name].numpy() for name in names})

    return with_onnx


def measure_here(program: str, count: int) -> None:
    """In a process of its own: print seconds and peak memory."""
    pairs = read_pairs(Path(os.environ["BIOREL_CORPORA"]) / "aimed" / "aimed_pairs.tsv")
    texts = [pair.text for pair in pairs][:count]
    make = with_biorel if program.startswith("biorel") else lambda texts: with_peer(program, texts)
    make(texts[:BATCH])()  # the first call allocates and compiles
    run = make(texts)
    started = time.perf_counter()
    run()
    seconds = time.perf_counter() - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"sentences": len(texts), "seconds": seconds, "memory": memory}))


def measure(python: str, program: str, count: int) -> tuple[float, float]:
    command = [python, __file__, "--only", program, "--sentences", str(count)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    record = json.loads(done.stdout.splitlines()[-1])
    return record["sentences"] / record["seconds"], record["memory"]


def commit() -> str:
    """The checkout's commit, with a `+` where files differ from it."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--exclude=*"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="the Python that has PyTorch")
    parser.add_argument("--only", help="measure one program in this process")
    parser.add_argument("--sentences", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, help="a file for the table; default: standard output only")
    options = parser.parse_args()
    if "BIOREL_CORPORA" not in os.environ:
        sys.exit("Set BIOREL_CORPORA to the folder of the corpora")
    if options.only:
        measure_here(options.only, options.sentences)
        return
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in PROGRAMS}
    lines = [
        f"date     {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}",
        f"machine  {cpu_name()}, {os.cpu_count()} cores ({', '.join(cpu_features())}); Python {platform.python_version()}",
        f"load     {load_average()} before the run",
        f"commit   {commit()}",
        f"command  python benchmarks/inference.py --sentences {options.sentences} --repeats {options.repeats}",
        "",
    ]
    for _ in range(options.repeats):
        for name in PROGRAMS:
            python = sys.executable if name.startswith("biorel") else options.peer
            results[name].append(measure(python, name, options.sentences))
            print(f"{name}: {results[name][-1][0]:.1f} sentences/s", file=sys.stderr, flush=True)
    speeds = {name: statistics.median(speed for speed, _ in runs) for name, runs in results.items()}
    ours = speeds["biorel f32"]
    head = f"MiniLM, {options.sentences} AIMed sentences"
    lines.append(f"{head:<36} {'sentences/s':>12} {'all repeats':>24} {'peak MB':>8} {'biorel is':>10}")
    for name, runs in results.items():
        every = " ".join(f"{speed:.1f}" for speed, _ in runs)
        memory = max(memory for _, memory in runs)
        lines.append(f"{name:<36} {speeds[name]:>12.1f} {every:>24} {memory:>8.0f} {ours / speeds[name]:>9.2f}x")
    table = "\n".join(lines) + "\n"
    print(table, end="")
    if options.output is not None:
        options.output.write_text(table, encoding="utf-8")


if __name__ == "__main__":
    main()
