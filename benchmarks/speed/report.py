"""Write the summary, the plot and the tables in docs/performance.md from the results of bench.py."""

import json
import statistics
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs" / "performance.md"
BEGIN, END = "<!-- results: written by benchmarks/speed/bench.py report -->", "<!-- end of the results -->"
# The work, its part, and the target ratio of biorel to the tuned baseline.
TRAINING = [
    ("MiniLM fine-tuning, fp32", "train-minilm-f32", 1.7),
    ("MiniLM fine-tuning, bf16", "train-minilm-bf16", 3.0),
    ("BERT-base fine-tuning, fp32", "train-base-f32", 1.4),
    ("BERT-base fine-tuning, bf16", "train-base-bf16", 2.2),
]
ONE_PASS = [("MiniLM on AIMed, one pass", "one-pass"), ("BERT-base on AIMed, one pass", "one-pass-base")]
Records = dict[str, list[dict]]


def load(folder: Path) -> dict[str, dict]:
    """The results by part."""
    return {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))}


def middle(runs: list[dict], key: str = "sentences_per_second") -> float:
    return statistics.median(run[key] for run in runs)


def best(programs: Records, wanted: str) -> float:
    """The fastest baseline whose label contains `wanted`."""
    return max(middle(runs) for label, runs in programs.items() if wanted in label and not label.startswith("biorel"))


def summary(results: dict[str, dict]) -> list[list[str]]:
    """Rows: work, baseline as commonly run, tuned baseline, biorel, and its ratios to both."""
    rows = []
    for work, part, aim in TRAINING:
        if part in results:
            programs = results[part]["programs"]
            label = next(label for label in programs if label.startswith("biorel"))
            ours, run, tuned = middle(programs[label]), best(programs, "padded"), best(programs, "group_by_length")
            figures = [f"{run:.1f}", f"{tuned:.1f}", f"{ours:.1f} ({label.split()[1]})"]
            rows.append([work, *figures, f"{ours / run:.1f}", f"{ours / tuned:.2f}", f"{aim}"])
    if "adapt" in results:
        programs = results["adapt"]["programs"]
        for label, runs in programs.items():
            if label.startswith("biorel"):
                engine, kind = label.removeprefix("biorel ").split(", ")
                precision = {"f32": "fp32", "bf16": "bf16"}[engine]
                baseline = next(
                    one for one in programs if one.startswith(f"PyTorch {precision}") and f", {kind}," in one
                )
                ours, run = middle(runs, "pieces_per_second"), middle(programs[baseline], "pieces_per_second")
                work = f"MiniLM masked language model, {kind}, {precision}, pieces"
                rows.append([work, f"{run:.0f}", "", f"{ours:.0f} ({engine})", f"{ours / run:.1f}", "", ""])
    if "inference" in results:
        programs = results["inference"]["programs"]
        for engine, baseline, aim in (("f32", "fp32", 1.3), ("bf16", "bf16", 1.5)):
            if f"biorel {engine}" in programs:
                ours, tuned = middle(programs[f"biorel {engine}"]), best(programs, baseline)
                figures = ["", f"{tuned:.1f}", f"{ours:.1f} ({engine})", "", f"{ours / tuned:.2f}"]
                rows.append([f"MiniLM inference, {baseline}", *figures, f"{aim}"])
    if "optimizer" in results:
        programs = results["optimizer"]["programs"]
        for what, key in (("AdamW, BERT-base", "update"), ("the same with clipping", "clipping_and_update")):
            ours, baseline = (middle(programs[label], key) for label in ("biorel", "PyTorch fused"))
            rows.append([f"{what}, seconds", "", f"{baseline:.3f}", f"{ours:.3f}", "", f"{baseline / ours:.2f}", "1.0"])
    return rows


def markdown(results: dict[str, dict]) -> list[str]:
    head = ["work", "PyTorch as run", "tuned", "biorel", "vs. as run", "vs. tuned", "target vs. tuned"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in summary(results)]
    headers = [result["header"] for result in results.values()]
    for name in ("machine", "instructions", "versions", "commit"):
        every = sorted({header[name] for header in headers})
        lines.append(f"\n{name.capitalize()}: {'; '.join(every)}" + ("." if name == "commit" else ""))
    dates = sorted(header["date"] for header in headers)
    lines.append(f"\nMeasured from {dates[0]} to {dates[-1]}.")
    return lines


def block(folder: Path, part: str) -> list[str]:
    """The table of a part without its header."""
    file = folder / f"{part}.txt"
    if not file.exists():
        return []
    _, _, table = file.read_text().partition("\n\n")
    return ["", "```text", *table.rstrip().splitlines(), "```"]


def draw(results: dict[str, dict], path: Path) -> None:
    """Plot speeds of training and inference, time by length, and time by batch."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullLocator

    bars = [(work, part) for work, part, _ in TRAINING if part in results]
    bars += [(work, part) for work, part in ONE_PASS if part in results]
    bars += [("MiniLM inference", "inference")] if "inference" in results else []
    lines = [part for part in ("length", "batch-threads") if part in results]
    columns = 3
    rows = -(-(len(bars) + len(lines)) // columns)
    figure, panels = plt.subplots(rows, columns, figsize=(6 * columns, 3.4 * rows), squeeze=False)
    free = iter(panels.flat)
    for work, part in bars:
        panel, programs = next(free), results[part]["programs"]
        labels = list(programs)[::-1]
        colours = ["tab:blue" if label.startswith("biorel") else "tab:orange" for label in labels]
        drawn = panel.barh(range(len(labels)), [middle(programs[label]) for label in labels], color=colours)
        panel.bar_label(drawn, fmt="%.1f", padding=2, fontsize=7)
        panel.margins(x=0.15)
        panel.set_yticks(range(len(labels)), labels, fontsize=7)
        unit = "pairs/s" if part.startswith("one-pass") else "sentences/s"
        panel.set_title(f"{work}, {unit}", fontsize=9, loc="right")
    for part in lines:
        panel, programs = next(free), results[part]["programs"]
        axis = "length" if part == "length" else "batch"
        for label, runs in programs.items():
            most = max(point["threads"] for point in runs[0]["points"])
            points = [(i, point) for i, point in enumerate(runs[0]["points"]) if point["threads"] == most]
            times = [statistics.median(run["points"][i]["seconds"] for run in runs) for i, _ in points]
            colour, style = ("tab:blue" if "biorel" in label else "tab:orange"), ("--" if "bf16" in label else "-")
            sizes = [point[axis] for _, point in points]
            panel.plot(sizes, times, style, marker="o", color=colour, label=label)
        panel.set(xscale="log", yscale="log", xlabel="tokens a sentence" if axis == "length" else "sentences a batch")
        panel.set_xticks(sizes, map(str, sizes))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_title("seconds a step", fontsize=9, loc="right")
        panel.legend(fontsize=7)
        panel.grid(alpha=0.3)
    for panel in free:
        panel.set_axis_off()
    first = next(iter(results.values()))["header"]
    figure.suptitle(f"{first['machine']}; {first['date']}; commit {first['commit']}", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def write(folder: Path) -> None:
    """Write summary.md and bench.png to the folder, and the part of docs/performance.md between the two marks."""
    results = load(folder)
    if not results:
        raise SystemExit(f"{folder} has no results: run the parts first")
    text = "\n".join(markdown(results))
    (folder / "summary.md").write_text(text + "\n", encoding="utf-8")
    draw(results, folder / "bench.png")
    before, begin, rest = DOCS.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{DOCS}: the marks {BEGIN!r} and {END!r} are missing")
    tables = [text]
    titles = {
        "one-pass": "Fine-tuning MiniLM on AIMed: one pass for all pairs of a sentence against a pass for each pair",
        "one-pass-base": "The same with BERT-base (random weights)",
        "architectures-f32": "Fine-tuning base-sized encoders of three architectures (random weights) on AIMed, fp32",
        "architectures-bf16": "The same in bf16, PyTorch with autocast",
        "adapt": "MiniLM as a masked language model on ChemProt's training texts, against transformers' `run_mlm`",
        "gemm": "Products, against oneDNN (`torch.mm`) on the same shapes",
        "ops": "Every operation of a step, with its share of the fastest product",
        "heads": "What a head adds to a step",
        "memory": "Peak memory of BERT-base: AIMed in batches of 32, and 8 texts of 512 word pieces",
        "length": "A step by length",
        "batch-threads": "A step by batch and threads",
        "reading": "Reading and tokenising",
    }
    for part, title in titles.items():
        if table := block(folder, part):
            tables += ["", f"**{title}**", *table]
    DOCS.write_text("".join([before, BEGIN, "\n\n", "\n".join(tables), "\n\n", END, after]), encoding="utf-8")
    print(text)
