"""Draw the figures of the documentation, from the synthetic sample: `python docs/figures/make_figures.py`."""

from pathlib import Path

import biorel
import matplotlib

matplotlib.use("agg")
FOLDER = Path(__file__).parent


def main() -> None:
    corpus = biorel.load_sample("ddi")
    run = biorel.finetune(corpus, "minilm", head="attention", learning_rate=2e-4, epochs=5)
    weights = run.attention("test")
    biorel.heatmap(weights, [0, 1, 2]).save(FOLDER / "heatmap.png")
    other = biorel.finetune(corpus, "minilm", head="cls", learning_rate=2e-4, epochs=2)
    biorel.gallery(weights, run.predictions(), other.predictions(), n=3).save(FOLDER / "gallery.png")
    untrained = biorel.finetune(corpus, "minilm", head="attention", max_steps=0)
    both = biorel.compare_stems(weights, baseline=untrained.attention("test")).head(8)
    figures = {
        "stems": biorel.plot_stems(biorel.top_stems(weights, 10)),
        "contrast": biorel.plot_stems(both),
        "faithfulness": biorel.plot_faithfulness(biorel.faithfulness(run.model.mask_words(corpus))),
        "history": biorel.plot_history(run),
        "confusion": biorel.plot_confusion(run.predictions("test")),
    }
    for name, axes in figures.items():
        axes.figure.savefig(FOLDER / f"{name}.png", dpi=100)


if __name__ == "__main__":
    main()
