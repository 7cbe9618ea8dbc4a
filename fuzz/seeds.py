"""Write the fuzzer's seed inputs to ``fuzz/corpus/TARGET``, from the data of the tests.

An input is a byte that selects the reader, then files separated by a line of ``=`` (``fuzz/src/lib.rs``).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zipfile
from pathlib import Path

FUZZ = Path(__file__).parent
DATA = FUZZ.parent / "tests" / "data"
SAMPLE = FUZZ.parent / "python" / "biorel" / "data" / "sample"
BETWEEN = b"\n=====\n"


def seed(target: str, choice: int, *files: Path | bytes) -> None:
    """Write one input."""
    contents = [file if isinstance(file, bytes) else file.read_bytes() for file in files]
    data = bytes([choice]) + BETWEEN.join(contents)
    folder = FUZZ / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)


def corpora() -> None:
    """Write inputs of every corpus reader, also in archives."""
    found = DATA / "corpora"
    for file in (found / "ppi").iterdir():
        seed("corpora", 0 if file.suffix == ".xml" else 1, file)
    for number, ending in ((3, "tsv"), (4, "csv"), (5, "jsonl")):
        seed("corpora", number, found / "table" / f"pairs.{ending}")
    for file in [*(found / "ddi").rglob("*.xml"), *sorted((SAMPLE / "ddi").rglob("*.xml"))[:2]]:
        seed("corpora", 2, file)
    training = found / "chemprot" / "training"
    names = ("abstracts", "entities", "gold_standard", "relations")
    seed("corpora", 6, *(training / f"chemprot_training_{name}.tsv" for name in names))
    for number, folder in ((7, "ddi"), (8, "ppi"), (9, "chemprot")):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted((found / folder).rglob("*.*")):
                if file.is_file():
                    archive.write(file, file.relative_to(found))
        seed("corpora", number, buffer.getvalue())


def checkpoints() -> None:
    """Write inputs of every format of weights."""
    for folder in (DATA / "checkpoint").iterdir():
        one = {"model.safetensors": 0, "pytorch_model.bin": 1, "flax_model.msgpack": 3}
        for name, choice in one.items():
            if (folder / name).exists():
                seed("checkpoints", choice, folder / name)
        for index in folder.glob("*.ckpt*.index"):
            data = sorted(folder.glob(index.name.removesuffix(".index") + ".data-*"))
            seed("checkpoints", 2, index, *data[:1])
        for choice, index in ((4, "model.safetensors.index.json"), (5, "pytorch_model.bin.index.json")):
            if (folder / index).exists():
                names = sorted(file for file in folder.iterdir() if "-of-" in file.name)
                text = (folder / index).read_bytes()
                for name, short in zip(names, "ab", strict=False):
                    text = text.replace(name.name.encode(), f"{short}{name.suffix}".encode())
                seed("checkpoints", choice, text, *names[:2])


def configs() -> None:
    """Write configurations of encoders and of a saved model."""
    for file in (DATA / "checkpoint").glob("*/*config.json"):
        seed("configs", 0, file)
        seed("configs", 1, file)
    card = FUZZ / "seeds" / "biorel.json"
    seed("configs", 2, card)


def documents() -> None:
    """Write inputs of every format of documents, for the round trip and for training."""
    found = DATA / "documents"
    files = [
        [0, found / "pubtator" / "edge_cases.txt"],
        [1, found / "bioc" / "export.json"],
        [2, found / "bioc" / "edge_cases.xml"],
    ]
    files += [[3, file, file.with_suffix(".txt")] for file in sorted((found / "brat").rglob("*.ann"))]
    training = found / "bionlp" / "train"
    tables = [found / "drugprot" / f"drugprot_training_{name}.tsv" for name in ("abstracs", "entities", "relations")]
    files += [
        [8, training / "one.a1", training / "one.txt", training / "one.a2"],
        [9, *tables],
        [10, found / "prodigy" / "train.jsonl"],
        [11, found / "bigbio" / "train.jsonl"],
        [12, found / "label_studio" / "train.json"],
        [13, found / "inception" / "train.json"],
    ]
    for choice, *contents in files:
        seed("documents", choice, *contents)
        seed("documents", choice + (4 if choice < 4 else 6), *contents)
        packed = [gzip.compress(file.read_bytes(), mtime=0) for file in contents]
        seed("documents", choice, *packed)


def training_checkpoints() -> None:
    """Write headers of a checkpoint, and edits of single bytes of the target's own checkpoint."""
    step = {
        "step": 1,
        "epoch": 1,
        "loss": 0.7,
        "gradient_norm": 0.1,
        "learning_rate": 1e-5,
        "instances": 2,
        "tokens": 8,
    }
    scores = {"step": 1, "epoch": 1, "loss": 0.7, "precision": 0.5, "recall": 0.5, "f1": 0.5, "best": True}
    for steps in (0, 1, 2):
        header = {"format": 3, "fingerprint": "", "steps": steps, "best": False}
        header["history"] = [step | {"step": number + 1, "seconds": 0.1} for number in range(steps)]
        header["evaluations"] = [scores | {"step": number + 1, "seconds": 0.1} for number in range(steps)]
        seed("training_checkpoints", 1, json.dumps(header).encode())
    seed("training_checkpoints", 2, b"")
    seed("training_checkpoints", 2, bytes([200, 0, 48, 0, 4, 127]))
    seed("training_checkpoints", 0, DATA / "checkpoint" / "reference" / "model.safetensors")


def tokenizers() -> None:
    """Write vocabularies and texts."""
    for folder in (DATA / "encoding").iterdir():
        seed("tokenizer", 0, folder / "vocab.txt", b'{"do_lower_case": true}')
    seed("tokenizer", 1, FUZZ / "seeds" / "tokenizer.json")
    texts = (FUZZ.parent / "tests" / "golden" / "tokenizer" / "hard.json").read_text(encoding="utf-8").splitlines()
    for text in texts:
        seed("tokenizer", 2, text.encode())
        seed("tokenizer", 3, text.encode())


if __name__ == "__main__":
    corpora()
    checkpoints()
    configs()
    documents()
    training_checkpoints()
    tokenizers()
