"""Inference of MiniLM with one program: prints sentences per second as JSON. `bench.py inference` runs all in turn.

    python benchmarks/speed/inference.py "PyTorch fp32" --sentences 600

Timed are tokenisation and last hidden states of AIMed sentences spread over the corpus, after a warm-up; loading the model
is not timed. The baselines read the sentences sorted by length in batches of 64, their best setting; biorel uses its
defaults.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path

from aimed import read_pairs

PROGRAMS = ["biorel f32", "biorel bf16", "PyTorch fp32", "PyTorch bf16 autocast", "PyTorch bf16", "ONNX Runtime fp32"]
BATCH = 64


def with_biorel(precision: str, texts: list[str]):
    import biorel

    encoder = biorel.load_encoder("minilm")
    return lambda: encoder.encode(texts, precision=precision)


def with_baseline(program: str, texts: list[str]):
    import torch
    from baseline_train import minilm_folder
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", choices=PROGRAMS)
    parser.add_argument("--sentences", type=int, default=600)
    options = parser.parse_args()
    pairs = read_pairs(Path(os.environ["BIOREL_CORPORA"]) / "aimed" / "aimed_pairs.tsv")
    texts = [pair.text for pair in pairs][:: max(1, len(pairs) // options.sentences)][: options.sentences]
    name, _, precision = options.program.partition(" ")
    make = (
        (lambda texts: with_biorel(precision, texts))
        if name == "biorel"
        else lambda texts: with_baseline(options.program, texts)
    )
    make(texts[:BATCH])()  # the first call allocates and compiles
    run = make(texts)
    started = time.perf_counter()
    run()
    speed = len(texts) / (time.perf_counter() - started)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"sentences_per_second": speed, "peak_memory_mb": round(memory)}))


if __name__ == "__main__":
    main()
