"""Compare biorel's last hidden states with transformers' on real sentences of mixed length, alone and packed.

Also those of a model that biorel fine-tuned and saved, opened with transformers' AutoModel and AutoTokenizer.

    BIOREL_CORPORA=... python benchmarks/studies/hidden_states.py

Needs biorel in the baseline's environment. Fails if the word pieces differ or a state differs by 1e-4 or more.
"""

import csv
import os
import sys
import tempfile
from pathlib import Path

import biorel
import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer, BertModel

sys.path.insert(0, str(Path(__file__).parents[1] / "speed"))
from baseline_train import minilm_folder

TOLERANCE = 1e-4


def sentences(path: Path, count: int) -> list[str]:
    """`count` different sentences of aimed_pairs.tsv, evenly spaced from the shortest to the longest."""
    with open(path, encoding="utf-8", newline="") as file:
        texts = {row["text"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)}
    ordered = sorted(texts, key=lambda text: (len(text), text))
    return [ordered[round(i * (len(ordered) - 1) / (count - 1))] for i in range(count)]


def largest_difference(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True))


def compare(name: str, texts: list[str], encoder: biorel.Encoder, tokenizer: AutoTokenizer, model: BertModel) -> None:
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
        f"{name}: {len(texts)} sentences of {min(lengths)} to {max(lengths)} pieces, {sum(lengths)} in all; "
        f"word pieces equal; largest absolute difference: {alone:.2e} alone, {packed:.2e} packed (allowed: {TOLERANCE:.0e})"
    )
    if not max(alone, packed) < TOLERANCE:
        sys.exit("the difference is too large")


def main() -> None:
    if "BIOREL_CORPORA" not in os.environ:
        sys.exit("Set BIOREL_CORPORA to the folder of the corpora")
    texts = sentences(Path(os.environ["BIOREL_CORPORA"]) / "aimed" / "aimed_pairs.tsv", 100)
    folder = minilm_folder()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = BertModel.from_pretrained(folder, add_pooling_layer=False, dtype=torch.float32).eval()
    encoder = biorel.load_encoder(str(folder))
    compare("pre-trained", texts, encoder, tokenizer, model)
    with tempfile.TemporaryDirectory() as parent:
        saved = Path(parent) / "model"
        run = biorel.finetune(biorel.load_sample("ddi"), encoder, max_steps=5, test=None, progress=False)
        run.model.save(saved)
        model = AutoModel.from_pretrained(saved).eval()
        compare("fine-tuned and saved", texts, biorel.load_encoder(saved), AutoTokenizer.from_pretrained(saved), model)


if __name__ == "__main__":
    main()
