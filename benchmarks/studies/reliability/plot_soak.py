"""Plot the table of `soak.py`: `python benchmarks/studies/reliability/plot_soak.py soak.tsv docs/figures/soak.svg`.

The background is white, so that it is readable on light and dark pages.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd


def main() -> None:
    """Draw."""
    mpl.use("agg")
    # The same table gives the same bytes.
    mpl.rcParams["svg.hashsalt"] = "biorel"
    source, target = map(Path, sys.argv[1:])
    table = pd.read_csv(source, sep="\t")
    minutes, memory = table["seconds"] / 60, table["resident_mib"]
    last = table.iloc[-1]
    quarter = len(table) // 4
    first, second = memory[quarter : 2 * quarter].mean(), memory[-quarter:].mean()
    figure, axes = plt.subplots(figsize=(8, 3.6), facecolor="white", layout="constrained")
    axes.plot(minutes, memory, color="#1f5fa8", linewidth=1)
    axes.axhline(second, color="#b03030", linewidth=1, linestyle="--")
    text = f"mean {first:.0f} MiB in the second quarter, {second:.0f} MiB in the last"
    axes.text(minutes.max(), memory.max() * 1.1, text, color="#b03030", ha="right", fontsize=9)
    axes.set(xlabel="minutes", ylabel="resident memory, MiB", xlim=(0, minutes.max()), ylim=(0, memory.max() * 1.25))
    done = [f"{int(last[name]):,} {name.replace('_', ' ')}" for name in table.columns[1:-1]]
    axes.set_title(", ".join(done), fontsize=8.5)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(target, dpi=150, metadata={"Date": None} if target.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
