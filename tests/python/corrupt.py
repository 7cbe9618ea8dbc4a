"""Corrupt files that Python reads: TOML options, the output directory of a stream, sentences for the command line.

Each target writes a valid file, corrupts it with the given random numbers, and reads it. The result must be an error of
biorel or of the operating system; anything else is raised. `test_corrupt_files.py` tries some cases,
`benchmarks/studies/reliability/corrupt_files.py` any number.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import biorel
from biorel.cli.main import main, parse
from edge_case_texts import EDGE_CASES

PIECES = [
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b"'",
    b"=",
    b"\n",
    b"\x00",
    b"\xff",
    b"\xed\xa0\x80",
    b"null",
    b"true",
    b"-1",
    b"1e999",
]
PIECES += [
    b"nan",
    b"inf",
    b"9" * 30,
    b"[" * 2000,
    b"\\u0000",
    b"\\ud800",
    b"1979-05-27T07:32:00Z",
    b"#",
    b".",
    b",",
    b"\r",
]
VALUES: list[Any] = [None, True, -1, 0, 2**70, 1e308, "", "x", "\0", [], [[]], {}, {"x": 1}, float("nan")]


def corrupt(data: bytes, numbers: Random) -> bytes:
    """Change, delete, duplicate or insert a few bytes, or replace JSON values so that the file stays valid JSON."""
    if numbers.random() < 0.5:
        with contextlib.suppress(ValueError):
            return corrupt_json(data, numbers)
    for _ in range(numbers.randint(1, 4)):
        start = numbers.randint(0, len(data))
        end = min(len(data), start + numbers.choice([0, 1, 1, 2, 8, 64]))
        middle = numbers.choice([b"", data[start:end] * 2, bytes([numbers.randrange(256)]), numbers.choice(PIECES)])
        data = data[:start] + middle + data[end:]
    return data


def corrupt_json(data: bytes, numbers: Random) -> bytes:
    """Replace or delete one value, in JSON or in JSON lines."""
    try:
        lines = [json.loads(data)]
    except ValueError:
        lines = [json.loads(line) for line in data.splitlines()]
    if not lines:
        raise ValueError("nothing to corrupt")
    holder: Any = lines
    key: Any = numbers.randrange(len(lines))
    while isinstance(holder[key], (dict, list)) and holder[key] and numbers.random() < 0.8:
        holder = holder[key]
        key = numbers.choice(list(holder)) if isinstance(holder, dict) else numbers.randrange(len(holder))
    if isinstance(holder, dict) and numbers.random() < 0.2:
        del holder[key]
    else:
        holder[key] = numbers.choice(VALUES)
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


class Files:
    """The files that the targets need, created once."""

    def __init__(self, folder: Path, model: biorel.RelationModel) -> None:
        self.folder = folder
        self.model = model
        model.save(folder / "model")
        self.source = folder / "documents.txt"
        texts = [EDGE_CASES[name] for name in ("astral", "combining", "touching", "zero width")] * 2
        blocks = []
        for number, one in enumerate(texts):
            (a, b) = ((entity["start"], entity["end"]) for entity in one["entities"])
            blocks.append(
                f"{number}|t|{one['text']}\n{number}\t{a[0]}\t{a[1]}\taaa\tdrug\n{number}\t{b[0]}\t{b[1]}\tbbb\tdrug\n"
            )
        blocks.insert(3, "9|t|Bad\n9\t0\t9\tBad\tdrug\n")
        self.source.write_text("\n".join(blocks), encoding="utf-8")
        for name in ("complete", "interrupted"):
            self.stream(folder / name)
        # The state after a kill: two of three parts, and no totals.
        interrupted = folder / "interrupted"
        parts = (interrupted / "parts.jsonl").read_text().splitlines(keepends=True)
        (interrupted / "parts.jsonl").write_text("".join(parts[:2]))
        manifest = json.loads((interrupted / "manifest.json").read_text())
        manifest = {key: value for key, value in manifest.items() if key not in ("complete", "totals")}
        (interrupted / "manifest.json").write_text(json.dumps(manifest))

    def stream(self, output: Path) -> biorel.DocumentPredictions:
        found = biorel.predict_documents(self.model, self.source, output, part_documents=3, progress=False)
        assert isinstance(found, biorel.DocumentPredictions)
        return found


CONFIG = """\
# Options of a run.
head = "attention"
learning-rate = 2e-5
batch_size = 16
class_weights = { false = 0.5, int = 2.0 }
train = ["train", "dev"]
epochs = 3
gradient-checkpointing = true
"""


def config(files: Files, numbers: Random) -> None:
    """Options of ``biorel finetune`` from a file."""
    path = files.folder / "options.toml"
    path.write_bytes(corrupt(CONFIG.encode(), numbers))
    # argparse refuses a value with SystemExit.
    with contextlib.suppress(biorel.BiorelError, SystemExit), contextlib.redirect_stderr(io.StringIO()):
        parse(["finetune", "ddi", "corpus", "--config", str(path)])


def stream(files: Files, numbers: Random) -> None:
    """The files from which a stream of documents resumes."""
    output = files.folder / "corrupt"
    shutil.rmtree(output, ignore_errors=True)
    shutil.copytree(files.folder / numbers.choice(["complete", "interrupted"]), output)
    path = output / numbers.choice(["manifest.json", "parts.jsonl", "parts.jsonl", "errors.jsonl"])
    path.write_bytes(corrupt(path.read_bytes(), numbers))
    with contextlib.suppress(biorel.BiorelError, OSError):
        found = files.stream(output)
        found.table()
        found.errors()


def sentences(files: Files, numbers: Random) -> None:
    """Sentences for ``biorel predict``."""
    path = files.folder / "sentences.jsonl"
    given = [EDGE_CASES[name] for name in ("astral", "nul", "crlf")]
    path.write_bytes(corrupt("".join(json.dumps(one) + "\n" for one in given).encode(), numbers))
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = main(["predict", str(files.folder / "model"), str(path), "--threads", "1", "--format", "jsonl"])
    assert code in (0, 1), output.getvalue()


TARGETS: dict[str, Callable[[Files, Random], None]] = {"config": config, "stream": stream, "sentences": sentences}
