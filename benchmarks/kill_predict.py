"""A streaming prediction is killed (kill -9) again and again; the rows must be those of a run that nobody disturbed.

    python benchmarks/kill_predict.py --kills 100

Each run is killed at a random moment after it has written at least one more part, until it has been killed `--kills`
times over all runs; whenever a run ends, its files are compared byte for byte, and a new one begins. The documents are the
synthetic sample's sentences, the model is MiniLM, hardly trained.
"""

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PREDICT = """
import sys, biorel
model, source, output = sys.argv[1:]
biorel.predict_documents(biorel.load(model), source, output, part_documents=2, progress=False)
"""


def prepare(folder: Path, count: int) -> None:
    """A model and documents; every tenth document is bad."""
    import biorel
    import pandas as pd

    run = biorel.finetune(biorel.load_sample("ddi"), "minilm", max_steps=2, progress=False)
    run.model.save(folder / "model")
    sentences = biorel.load_sample("ddi").sentences("train")["text"].tolist()
    texts, entities = [], []
    for number in range(count):
        text = " ".join(sentences[(2 * number + more) % len(sentences)] for more in range(2))
        words = text.split(" ")
        starts = [sum(len(word) + 1 for word in words[:index]) for index in range(len(words))]
        chosen = [index for index, word in enumerate(words) if len(word) > 7][:4]
        texts.append({"document": str(number), "text": text})
        entities += [
            {"document": str(number), "start": starts[index], "end": starts[index] + len(words[index]), "type": "drug"}
            for index in chosen
        ]
    (folder / "in").mkdir()
    made = biorel.documents_from_tables(pd.DataFrame(texts), pd.DataFrame(entities))
    biorel.write_documents(made, folder / "in" / "all.txt")
    lines = (folder / "in" / "all.txt").read_text(encoding="utf-8").split("\n\n")
    bad = [f"9{number}|t|Bad\n9{number}\t0\t9\tBad\tdrug" for number in range(count // 10)]
    for number, text in enumerate(bad):
        lines.insert(11 * number, text)
    (folder / "in" / "all.txt").write_text("\n\n".join(lines), encoding="utf-8")


def parts(output: Path) -> int:
    path = output / "parts.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def content(output: Path) -> dict[str, bytes]:
    names = {path.name: path.read_bytes() for path in (output / "relations").iterdir()}
    return names | {"errors": (output / "errors.jsonl").read_bytes()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--documents", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        prepare(folder, options.documents)
        command = [sys.executable, "-c", PREDICT, str(folder / "model"), str(folder / "in")]
        subprocess.run([*command, str(folder / "whole")], check=True)
        expected = content(folder / "whole")
        kills = runs = 0
        output = folder / "killed"
        while kills < options.kills:
            before = parts(output)
            wanted = before + moments.randint(0, 6)
            process = subprocess.Popen([*command, str(output)])
            while parts(output) < wanted and process.poll() is None:
                time.sleep(0.0002)
            # A part takes a few hundredths of a second: any moment of it may be hit.
            time.sleep(moments.uniform(0, 0.05) if wanted > before else moments.uniform(0, 1.5))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
                continue
            if process.returncode != 0:
                sys.exit(f"a run failed with {process.returncode} after {kills} kills")
            if content(output) != expected:
                sys.exit(f"rows differ after {kills} kills: {output}")
            runs += 1
            shutil.rmtree(output)
            print(f"{kills} kills, {runs} runs to the same bytes", file=sys.stderr, flush=True)
        subprocess.run([*command, str(output)], check=True)
        if content(output) != expected:
            sys.exit(f"rows differ after {kills} kills")
        rows = sum(text.count(b"\n") for name, text in expected.items() if name != "errors")
        print(
            f"{kills} kills over {runs + 1} runs: {rows} rows and {expected['errors'].count(b'reason')} errors, the same bytes"
        )


if __name__ == "__main__":
    main()
