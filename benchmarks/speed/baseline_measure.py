"""PyTorch's side of the measurements in benchmarks/speed/measure, with the same names; prints one line of JSON.

    python benchmarks/speed/baseline_measure.py gemm --precision bf16
    python benchmarks/speed/baseline_measure.py optimizer
    python benchmarks/speed/baseline_measure.py steps --points 64:32:2,128:32:2 --precision fp32
    python benchmarks/speed/baseline_measure.py reading

`steps` are whole training steps of Hugging Face's BertModel with random weights on equally long sentences, which need no
padding; `--precision bf16` is autocast. `gemm` are the matrix products alone, of tensors already in that precision.
"""

import argparse
import json
import os
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import tokenizers
import torch
from aimed import read_pairs
from baseline_train import make_optimizer, minilm_folder
from torch import nn
from transformers import BertConfig, BertModel

TOKENS = 2048
SHAPES = {
    "minilm": [(384, 1152), (384, 384), (384, 1536), (1536, 384)],
    "base": [(768, 2304), (768, 768), (768, 3072), (3072, 768)],
}
SIZES = {
    "minilm": {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 3072},
}


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def gemm(options: argparse.Namespace) -> dict:
    """`y = x W^T`, then `dx = dy W` and `dW = dy^T x`: GFLOP/s by shape."""
    dtype = torch.float32 if options.precision == "fp32" else torch.bfloat16
    rows = []
    for encoder, shapes in SHAPES.items():
        for inputs, outputs in shapes:
            x, dy = torch.randn(TOKENS, inputs).to(dtype), torch.randn(TOKENS, outputs).to(dtype)
            weight = torch.randn(outputs, inputs).to(dtype)
            transposed = weight.t()  # bound here, because a lambda in a loop would look it up later

            def forward(x=x, transposed=transposed):
                return torch.mm(x, transposed)

            def backward(x=x, dy=dy, weight=weight):
                return torch.mm(dy, weight), torch.mm(dy.t(), x)

            row = {"encoder": encoder, "shape": f"{TOKENS} x {inputs} x {outputs}"}
            for name, call, factor in (("forward", forward, 1), ("backward", backward, 2)):
                call()
                calls = max(3, int(0.33 / seconds(call)) + 1)
                middle = statistics.median(seconds(call) for _ in range(calls))
                row[name] = factor * 2 * TOKENS * inputs * outputs / middle / 1e9
            rows.append(row)
    return {"unit": "GFLOP/s", "products": rows}


def make_model(encoder: str) -> nn.Module:
    sizes = SIZES[encoder]
    config = BertConfig(vocab_size=30522, num_attention_heads=12, max_position_embeddings=512, **sizes)
    return BertModel(config, add_pooling_layer=False)


def optimizer(_: argparse.Namespace) -> dict:
    """Fused AdamW on the parameters of BERT-base, alone and with the clipping before it."""
    model = make_model("base")
    adamw = make_optimizer(model, 1e-6, bias_correction=True)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    clipping, updates = [], []
    for _ in range(12):
        clipping.append(seconds(lambda: nn.utils.clip_grad_norm_(model.parameters(), 1.0)))
        updates.append(seconds(adamw.step))
    both = [first + second for first, second in zip(clipping, updates)]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {
        "parameters": parameters,
        "update": statistics.median(updates),
        "clipping_and_update": statistics.median(both),
    }


def steps(options: argparse.Namespace) -> dict:
    """Seconds of a training step for each LENGTH:BATCH:THREADS."""
    model = make_model(options.encoder)
    if options.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    model.train()
    classifier = nn.Linear(model.config.hidden_size, 2)
    both = nn.ModuleList([model, classifier])
    adamw = make_optimizer(both, 1e-6, bias_correction=False)
    rows = []
    for point in options.points.split(","):
        length, batch, threads = map(int, point.split(":"))
        torch.set_num_threads(threads)
        ids = torch.randint(0, 30522, (batch, length))
        labels = torch.arange(batch) % 4 // 3

        def step(ids=ids, labels=labels):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=options.precision == "bf16"):
                states = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
                logits = classifier(nn.functional.dropout(states[:, 0], 0.1))
            nn.functional.cross_entropy(logits.float(), labels).backward()
            nn.utils.clip_grad_norm_(both.parameters(), 1.0)
            adamw.step()
            adamw.zero_grad(set_to_none=True)

        step()
        middle = statistics.median(seconds(step) for _ in range(options.repeats))
        rows.append({"length": length, "batch": batch, "threads": threads, "seconds": middle})
    return {"points": rows}


def reading(_: argparse.Namespace) -> dict:
    """AIMed's table read by Python's csv module and tokenised by tokenizers."""
    path = Path(os.environ["BIOREL_CORPORA"]) / "aimed" / "aimed_pairs.tsv"
    tokenizer = tokenizers.Tokenizer.from_file(str(minilm_folder() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(128)
    texts = [pair.text for pair in read_pairs(path)]
    pieces = sum(len(encoding.ids) for encoding in tokenizer.encode_batch(texts))
    reads = [seconds(lambda: read_pairs(path)) for _ in range(5)]
    encodes = [seconds(lambda: tokenizer.encode_batch(texts)) for _ in range(5)]
    corpus = {"corpus": "aimed", "pairs": len(texts), "pieces": pieces}
    times = {"reading": statistics.median(reads), "tokenising": statistics.median(encodes)}
    return {"corpora": [corpus | times]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    measurements = {"gemm": gemm, "optimizer": optimizer, "steps": steps, "reading": reading}
    parser.add_argument("what", choices=list(measurements))
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--encoder", choices=list(SIZES), default="minilm")
    parser.add_argument("--points", default="64:32:1", help="LENGTH:BATCH:THREADS,...")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--gradient-checkpointing", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    record = measurements[options.what](options)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(record | {"peak_memory_mb": round(memory)}))


if __name__ == "__main__":
    main()
