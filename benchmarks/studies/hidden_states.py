"""Compare biorel's last hidden states with transformers' on real sentences of mixed length, alone and packed.

First MiniLM, then a small model with random weights of every other architecture. Each is compared as transformers saved it, and
after biorel has fine-tuned and saved it, opened with transformers' AutoModel and AutoTokenizer.

    BIOREL_CORPORA=... python benchmarks/studies/hidden_states.py

Needs biorel in the baseline's environment. Fails if the word pieces differ or a state differs by 1e-4 or more.
"""

import csv
import os
import shutil
import sys
import tempfile
from pathlib import Path

import biorel
import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer

sys.path.insert(0, str(Path(__file__).parents[1] / "speed"))
from baseline_train import minilm_folder

TOLERANCE = 1e-4
KINDS = ["electra", "roberta", "xlm-roberta", "megatron-bert", "modernbert"]
SUBWORDS = Path(__file__).parents[2] / "tests" / "golden" / "tokenizer" / "subwords"
TOKENIZERS = {"roberta": "roberta", "xlm-roberta": "unigram", "modernbert": "modernbert"}  # otherwise MiniLM's
SIZES = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 256}
SIZES["vocab_size"] = 30522  # MiniLM's; the others have fewer pieces
OTHERS = {
    "electra": {"embedding_size": 48},
    "roberta": {"max_position_embeddings": 700, "pad_token_id": 1},
    "xlm-roberta": {"max_position_embeddings": 700, "pad_token_id": 1},
    "modernbert": {"local_attention": 16, "pad_token_id": 1},
}


def sentences(path: Path, count: int) -> list[str]:
    """`count` different sentences of aimed_pairs.tsv, evenly spaced from the shortest to the longest."""
    with open(path, encoding="utf-8", newline="") as file:
        texts = {row["text"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)}
    ordered = sorted(texts, key=lambda text: (len(text), text))
    return [ordered[round(i * (len(ordered) - 1) / (count - 1))] for i in range(count)]


def largest_difference(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True))


def compare(name: str, texts: list[str], folder: Path) -> None:
    """The states of the directory's encoder, opened by both."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    encoder = biorel.load_encoder(folder)
    theirs = []
    with torch.no_grad():
        for text in texts:
            ids = tokenizer(text, truncation=False)["input_ids"]
            ours = encoder.tokenize(text)["id"].tolist()
            if ours != ids[1:-1]:
                sys.exit(f"different word pieces for: {text}\n  biorel       {ours}\n  transformers {ids[1:-1]}")
            theirs.append(model(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy())
    lengths = [len(states) for states in theirs]
    alone = largest_difference([encoder.encode([text])[0] for text in texts], theirs)
    packed = largest_difference(encoder.encode(texts), theirs)
    print(
        f"{name}: {type(model).__name__}, {len(texts)} sentences of {min(lengths)} to {max(lengths)} pieces, {sum(lengths)} in "
        f"all; word pieces equal; largest absolute difference: {alone:.2e} alone, {packed:.2e} packed (allowed: "
        f"{TOLERANCE:.0e})",
        flush=True,
    )
    if not max(alone, packed) < TOLERANCE:
        sys.exit("the difference is too large")


def write(kind: str, folder: Path) -> None:
    """A small model with random weights, and a tokenizer of the tests."""
    tokenizer = TOKENIZERS.get(kind)
    source = minilm_folder() if tokenizer is None else SUBWORDS / tokenizer
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt"):
        if (source / name).exists():
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, folder)
    config = AutoConfig.for_model(kind, **SIZES, **OTHERS.get(kind, {}))
    torch.manual_seed(1)
    AutoModel.from_config(config).save_pretrained(folder)


def main() -> None:
    if "BIOREL_CORPORA" not in os.environ:
        sys.exit("Set BIOREL_CORPORA to the folder of the corpora")
    texts = sentences(Path(os.environ["BIOREL_CORPORA"]) / "aimed" / "aimed_pairs.tsv", 100)
    for name in ("minilm", *KINDS):
        with tempfile.TemporaryDirectory() as parent:
            folder, saved = minilm_folder(), Path(parent) / "model"
            if name != "minilm":
                folder = Path(parent) / "encoder"
                write(name, folder)
            compare(f"{name}, pre-trained", texts, folder)
            sample = biorel.load_sample("ddi")
            run = biorel.finetune(sample, folder, max_steps=5, too_long="join", test=None, progress=False)
            run.model.save(saved)
            compare(f"{name}, fine-tuned and saved", texts, saved)
            if name == "modernbert":
                compare(f"{name}, long texts", [" ".join(texts[:70]), " ".join(texts)], folder)


if __name__ == "__main__":
    main()
