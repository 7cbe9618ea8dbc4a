"""Draw the figures of README and the documentation: `python docs/figures/make_figures.py`, a minute on two cores.

Each figure is drawn twice, for light and for dark pages (`NAME-light.svg`, `NAME-dark.svg`), without a background.
Those of `results` show what `benchmarks/results` holds; those of `sample` come from models that are trained here on
the synthetic sample. `make_figures.py results` draws only the former, in seconds.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import biorel
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from biorel.plotting import ORANGE, SKY
from matplotlib.axes import Axes

FOLDER = Path(__file__).parent
RESULTS = FOLDER.parents[1] / "benchmarks" / "results"

# Text and lines, and the colour of the page, which empty cells of a confusion matrix have.
THEMES = {"light": ("#1f2328", "#ffffff"), "dark": ("#d8dee4", "#1e2129")}
COLOURED = ["text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"]


def main() -> None:
    mpl.use("agg")
    drawn = {"results": results, "sample": sample}
    for name in sys.argv[1:] or drawn:
        save(drawn[name]())


def save(figures: dict[str, Callable[[], Axes]]) -> None:
    for name, draw in figures.items():
        for theme, (text, page) in THEMES.items():
            # The same values give the same bytes.
            settings = dict.fromkeys(COLOURED, text) | {"axes.facecolor": page, "svg.hashsalt": name}
            with mpl.rc_context(settings):
                figure = draw().figure
                figure.savefig(FOLDER / f"{name}-{theme}.svg", transparent=True, metadata={"Date": None})
                plt.close(figure)


def results() -> dict[str, Callable[[], Axes]]:
    """AIMed's fold 0, and the attention of the models trained on DDI; `benchmarks/README.md` and `docs/paper.md`."""
    measured = RESULTS / "paper" / "measured_again" / "ddi"
    table5 = pd.read_csv(measured / "table5.csv")
    return {
        "scores": lambda: table_of_scores(scores_of_fold0()),
        "ddi-top-stems": lambda: biorel.plot_stems(table5.query("pieces == 'sum' and min_count == 20")),
        "ddi-stems": lambda: biorel.plot_stems(pd.read_csv(measured / "figure4.csv")),
        "soak": lambda: plot_soak(pd.read_csv(RESULTS / "reliability" / "soak.tsv", sep="\t")),
        "ddi-faithfulness": lambda: biorel.plot_faithfulness(pd.read_csv(measured / "faithfulness.csv")),
    }


def sample() -> dict[str, Callable[[], Axes]]:
    """The views of one model, and of another that is wrong where it is right."""
    corpus = biorel.load_sample("ddi")
    run = biorel.finetune(corpus, "minilm", head="attention", learning_rate=2e-4, epochs=5)
    other = biorel.finetune(corpus, "minilm", head="cls", learning_rate=2e-4, epochs=2)
    weights = run.attention("test")
    gallery = biorel.gallery(weights, run.predictions(), other.predictions(), n=3)
    return {
        "heatmap": lambda: biorel.heatmap(weights, one_of_each_label(run)).plot(columns=60),
        "gallery": gallery.plot,
        "history": lambda: biorel.plot_history(run),
        "confusion": lambda: biorel.plot_confusion(run),
    }


def one_of_each_label(run: biorel.Run) -> list[str]:
    """For each relation, the pair of the test split that the model classifies right with the highest probability."""
    right = run.predictions().query("gold == predicted and gold != @run.corpus.negative")
    return right.sort_values(["probability", "id"], ascending=[False, True]).groupby("gold")["id"].first().tolist()


def scores_of_fold0() -> pd.DataFrame:
    """Precision, recall and F1 in percent, one row per run."""
    rows = []
    for path in sorted((RESULTS / "aimed_fold0").glob("*.jsonl")):
        program, head, *precision, _ = path.stem.split("-")
        end = json.loads(path.read_text().splitlines()[-1])["scores"]
        name = "PyTorch" if program == "baseline" else f"biorel, {precision[0]}"
        rows.append({"head": head, "program": name} | {key: 100 * end[key] for key in ("precision", "recall", "f1")})
    return pd.DataFrame(rows)


def table_of_scores(runs: pd.DataFrame) -> Axes:
    """Mean and standard deviation over the seeds."""
    groups = runs.groupby(["head", "program"], sort=False)
    means, deviations = groups.mean(), groups.std()
    rows = sorted(means.index, key=lambda row: (row[0] != "cls", row[1] == "PyTorch", row[1]))
    edge, lefts = 0.02, [0.02, 0.2]
    rights = np.linspace(0.6, 0.98, 3)
    axes = plt.figure(figsize=(5.2, 0.3 * len(rows) + 0.9)).add_axes((0, 0, 1, 1))
    axes.axis("off")
    axes.set(xlim=(0, 1), ylim=(len(rows) + 1.2, -1))
    axes.text(edge, -0.4, "AIMed, first fold: the class positive of 621 pairs", weight="bold", va="center")
    for left, name in zip(lefts, ["head", ""], strict=True):
        axes.text(left, 0.6, name, va="center", alpha=0.8)
    for right, name in zip(rights, ["precision", "recall", "F1"], strict=True):
        axes.text(right, 0.6, name, va="center", ha="right", alpha=0.8)
    axes.axhline(1.05, edge, 1 - edge, color=plt.rcParams["text.color"], linewidth=0.8)
    for number, row in enumerate(rows):
        height = 1.6 + number
        head = row[0] if number == 0 or rows[number - 1][0] != row[0] else ""
        for left, name in zip(lefts, [head, row[1]], strict=True):
            axes.text(left, height, name, va="center")
        for right, column in zip(rights, ["precision", "recall", "f1"], strict=True):
            cell = f"{means.loc[row, column]:.1f} ± {deviations.loc[row, column]:.1f}"
            axes.text(right, height, cell, va="center", ha="right", weight="bold" if column == "f1" else "normal")
    return axes


def plot_soak(table: pd.DataFrame) -> Axes:
    """The memory of one process over an hour; `benchmarks/studies/reliability/soak.py` writes the table."""
    minutes, memory = table["seconds"] / 60, table["resident_mib"]
    quarter = len(table) // 4
    first, last = memory[quarter : 2 * quarter].mean(), memory[-quarter:].mean()
    axes = plt.subplots(figsize=(8, 3.6), layout="constrained")[1]
    axes.plot(minutes, memory, color=SKY, linewidth=1)
    axes.axhline(last, color=ORANGE, linewidth=1, linestyle="--")
    text = f"mean {first:.0f} MiB in the second quarter, {last:.0f} MiB in the last"
    axes.text(minutes.max(), memory.max() * 1.1, text, ha="right", fontsize=9)
    axes.set(xlabel="minutes", ylabel="resident memory, MiB", xlim=(0, minutes.max()), ylim=(0, memory.max() * 1.25))
    done = [f"{int(table[name].iloc[-1]):,} {name.replace('_', ' ')}" for name in table.columns[1:-1]]
    axes.set_title(", ".join(done), fontsize=8.5)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


if __name__ == "__main__":
    main()
