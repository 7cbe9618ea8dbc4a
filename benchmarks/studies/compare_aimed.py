"""Compare the AIMed runs of biorel with those of PyTorch: tables, and a plot of the loss curves.

    python benchmarks/studies/compare_aimed.py [benchmarks/results/aimed_fold0] [--picture loss.png]

Reads `baseline-<head>-seed<k>.jsonl` and `biorel-<head>-<precision>-seed<k>.jsonl` (README.md has the format). A log without an
`end` record is an unfinished run; it is named and skipped.
"""

import argparse
import json
import statistics
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Run:
    """One finished training run."""

    program: str  # "baseline", or "biorel f32" and "biorel bf16", whose matrix products differ
    head: str
    seed: int
    precision: str  # of the matrix products
    losses: list[float]  # one per step
    epoch_losses: list[float]
    scores: dict


def read_run(path: Path) -> Run | None:
    """The run of one log, or None if it is unfinished."""
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise SystemExit(f"{path}:{number}: not JSON: {error}") from None
    by_event = {record["event"]: record for record in records}
    if not {"header", "end"} <= by_event.keys() or "scores" not in by_event["end"]:
        return None
    epochs = [record for record in records if record["event"] == "epoch"]
    program, settings = by_event["header"]["program"], by_event["header"]["settings"]
    precision = settings["precision"]
    return Run(
        program=f"{program} {precision}" if program == "biorel" else program,
        head=settings["head"],
        seed=settings["seed"],
        precision=precision,
        losses=[loss for epoch in epochs for loss in epoch["losses"]],
        epoch_losses=[epoch["mean_loss"] for epoch in epochs],
        scores=by_event["end"]["scores"],
    )


def mean_sd(values: list[float], digits: int) -> str:
    if len(values) < 2:
        return f"{statistics.mean(values):.{digits}f} (one seed: no sd)"
    return f"{statistics.mean(values):.{digits}f} +- {statistics.stdev(values):.{digits}f}"


def print_tables(runs: list[Run]) -> None:
    """Print every run, mean and sd over the seeds, and the difference with its standard error."""
    print("| program | head | seed | precision | P | R | F1 | mean loss of epochs 1, 2, ... |")
    print("|---|---|---|---|---|---|---|---|")
    for run in runs:
        percent = [f"{100 * run.scores[name]:.1f}" for name in ("precision", "recall", "f1")]
        losses = " ".join(f"{loss:.3f}" for loss in run.epoch_losses)
        print(f"| {run.program} | {run.head} | {run.seed} | {run.precision} | {' | '.join(percent)} | {losses} |")
    print()
    print("| head | program | seeds | F1 (mean +- sd) | loss of the last epoch |")
    print("|---|---|---|---|---|")
    groups: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        groups.setdefault(run.head, {}).setdefault(run.program, []).append(run)
    for head, programs in groups.items():
        for program, group in programs.items():
            f1 = mean_sd([100 * run.scores["f1"] for run in group], 1)
            loss = mean_sd([run.epoch_losses[-1] for run in group], 3)
            print(f"| {head} | {program} | {len(group)} | {f1} | {loss} |")
    for head, programs in groups.items():
        for one, other in (("biorel f32", "baseline"), ("biorel bf16", "biorel f32")):
            if programs.keys() >= {one, other} and min(len(programs[name]) for name in (one, other)) > 1:
                ours, theirs = ([100 * run.scores["f1"] for run in programs[name]] for name in (one, other))
                error = (statistics.variance(ours) / len(ours) + statistics.variance(theirs) / len(theirs)) ** 0.5
                gap = statistics.mean(ours) - statistics.mean(theirs)
                print(f"\n{head}: F1 of {one} - {other} = {gap:+.1f}, standard error from the seeds {error:.1f}")


def smooth(losses: list[float], width: int = 20) -> list[float]:
    """Mean of the last `width` steps at every step."""
    return [statistics.fmean(losses[max(0, i + 1 - width) : i + 1]) for i in range(len(losses))]


def draw(runs: list[Run], path: Path) -> None:
    """Draw one panel per head, one line per run, one colour per program."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    heads = sorted({run.head for run in runs})
    colours = {"baseline": "tab:orange", "biorel f32": "tab:blue", "biorel bf16": "tab:green"}
    figure, panels = plt.subplots(1, len(heads), figsize=(5.5 * len(heads), 4), sharey=True, squeeze=False)
    for panel, head in zip(panels[0], heads):
        named = set()
        for run in (r for r in runs if r.head == head):
            label = {"baseline": "PyTorch + transformers"}.get(run.program, run.program)
            panel.plot(
                smooth(run.losses),
                color=colours.get(run.program),
                linewidth=1,
                alpha=0.8,
                label=None if label in named else label,
            )
            named.add(label)
        panel.set(title=f"head: {head}", xlabel="step")
        panel.legend()
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("training loss, mean of 20 steps")
    figure.suptitle("AIMed, fold 0 held out, MiniLM; one line per seed")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    print(f"\nLoss curves: {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parents[1] / "results" / "aimed_fold0")
    parser.add_argument("--picture", type=Path, help="file for the plot; default: loss.png in the folder")
    options = parser.parse_args()
    runs = []
    for path in sorted(options.folder.glob("*.jsonl")):
        if not path.name.startswith(("baseline-", "biorel-")):
            continue
        run = read_run(path)
        if run is None:
            print(f"{path.name}: unfinished, skipped")
        else:
            runs.append(run)
    if not runs:
        raise SystemExit(f"{options.folder}: no finished run")
    runs.sort(key=lambda run: (run.head, run.program, run.seed))
    print_tables(runs)
    draw(runs, options.picture or options.folder / "loss.png")


if __name__ == "__main__":
    main()
