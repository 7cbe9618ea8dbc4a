"""The items about attention: Table V, Fig. 3, Fig. 4 and faithfulness."""

from __future__ import annotations

import itertools
from typing import Any

import pandas as pd
from biorel.interpretation.faithfulness import faithfulness, rank_agreement
from biorel.interpretation.heatmap import heatmap
from biorel.interpretation.stems import compare_stems, top_stems
from biorel.plotting import plot_faithfulness, plot_stems
from biorel.reproduction import published
from biorel.reproduction.report import Section
from biorel.reproduction.study import Study

# The paper does not say how many occurrences a stem needs for Table V, and the table depends on it.
_MIN_COUNTS = (3, 20, 50)


def table5(study: Study) -> Section:
    """The stems with the most attention, for several minimum counts and both weights of a word."""
    tables, by_class, notes, protocol = [], [], [], ""
    for name in study.corpora:
        words = study.words(name)
        printed, triggers = published.STEMS[name], published.TRIGGERS[name]
        for weight, min_count in itertools.product(("sum", "mean"), _MIN_COUNTS):
            weighting: Any = weight
            top = top_stems(words, 10, weight=weighting, min_count=min_count, samples=1000 if weight == "sum" else 0)
            protocol = top.attrs["protocol"] if (weight, min_count) == ("sum", _MIN_COUNTS[0]) else protocol
            top = top.assign(in_paper=top["stem"].isin(printed), trigger=top["stem"].isin(triggers))
            columns: dict[str, Any] = {
                "corpus": name,
                "pieces": weight,
                "min_count": min_count,
                "rank": range(1, len(top) + 1),
            }
            for position, (column, values) in enumerate({**columns, "published": printed[: len(top)]}.items()):
                top.insert(position, column, values)
            tables.append(top)
            every = top_stems(words, None, weight=weighting, min_count=min_count, samples=0)
            base = every["stem"].isin(triggers).mean()
            notes.append(
                f"{published.TASKS[name]}, stems with {min_count} occurrences or more, {weight} over pieces: "
                f"{top['in_paper'].sum()} of our top {len(top)} are in the printed ten; {top['trigger'].sum()} are "
                f"known trigger words, against {100 * base:.0f} % of all {len(every):,} such stems."
            )
        classes = top_stems(words, 10, by_label=True, samples=0).drop(columns=["low", "high", "note"])
        classes.insert(0, "corpus", name)
        classes.insert(1, "min_count", 3)
        by_class.append(classes)
    notes.append(
        f"{protocol}. The ranking depends on the minimum count more than on the model, and on whether the weights of "
        "a word's pieces are summed (our reading of the paper, the first tables) or averaged; the paper states neither "
        "choice. By class: stems with 3 occurrences or more. Known trigger words: "
        "biorel.reproduction.published.TRIGGERS."
    )
    shown = {"table5": pd.concat(tables, ignore_index=True), "table5_by_class": pd.concat(by_class, ignore_index=True)}
    return Section("Table V: the stems with the most attention", notes, shown)


def figure3(study: Study) -> Section:
    """Heat maps of related pairs that the model classified correctly."""
    section = Section(
        "Fig. 3: attention over the words of a sentence", ["Related pairs that were classified correctly."]
    )
    for name in study.corpora:
        words = study.words(name)
        predictions = study.compare(name, ["attention"]).predictions("attention", seed=study.seeds[0])
        correct = predictions["gold"] == predictions["predicted"]
        related = predictions["gold"] != study.corpora[name].negative
        best = (
            predictions[correct & related]
            .sort_values(["probability", "id"], ascending=[False, True])["id"]
            .head(3)
            .tolist()
        )
        if best:
            section.html[f"figure3-{name}"] = heatmap(words, best).html()
        else:
            section.notes.append(f"{published.TASKS[name]}: no related pair was classified correctly.")
    return section


def figure4(study: Study) -> Section:
    """Stems compared between related and unrelated pairs."""
    tables, pictures, notes = [], {}, []
    for name in study.corpora:
        words = study.words(name)
        near = words[(words["distance"] <= 3) & ~words["is_entity"]]
        found = [stem for stem in published.COMPARED[name] if (near["stem"] == stem).any()]
        notes += [
            f"{published.TASKS[name]}: `{stem}` does not occur near the entities of the test instances."
            for stem in published.COMPARED[name]
            if stem not in found
        ]
        if not found:
            continue
        table = compare_stems(words, found, baseline=study.untrained(name))
        pictures[f"figure4-{name}"] = plot_stems(table)
        notes.append(f"{published.TASKS[name]}: {table.attrs['protocol']}.")
        table.insert(0, "corpus", name)
        tables.append(table)
    notes.append(
        "positive and negative are the paper's means. The weights of a sentence sum to 1 and related pairs occur in "
        "shorter sentences, so these means differ even without learning: baseline_positive and baseline_negative are "
        "those of the untrained model. The pictures, the difference and its test use the weight relative to the "
        "uniform weight; baseline_difference and baseline_p are the same for the untrained model."
    )
    shown = {"figure4": pd.concat(tables, ignore_index=True)} if tables else {}
    return Section("Fig. 4: stems in related and unrelated pairs", notes, shown, pictures)


def attention_faithfulness(study: Study) -> Section:
    """Whether attention explains the decisions, and how far explanations agree."""
    tables: list[pd.DataFrame] = []
    agreements: list[pd.DataFrame] = []
    pictures, notes = {}, []
    for name in study.corpora:
        comparison = study.compare(name, ["attention"])
        summary = faithfulness(comparison.mask_words("attention", seed=study.seeds[0], limit=200, n_random=5))
        if len(summary):
            pictures[f"faithfulness-{name}"] = plot_faithfulness(summary)
        notes.append(f"{published.TASKS[name]}: {summary.protocol}.")
        seed = study.seeds[0]
        documents = _some_documents(study.words(name), 1000)
        weights = {"attention": _restrict(study.words(name), documents)}
        weights |= {
            f"attention, seed {other}": _restrict(study.words(name, other), documents) for other in study.seeds[1:]
        }
        for kind in ("encoder", "gradient"):
            weights[kind] = comparison.attention("attention", seed=seed, kind=kind, documents=documents)
        agreement = rank_agreement(weights)
        for table, all_tables in ((summary, tables), (agreement, agreements)):
            plain = pd.DataFrame(table)
            plain.insert(0, "corpus", name)
            all_tables.append(plain)
    notes.append(
        "Agreement is computed on a sample of documents with about 1,000 pairs, or on all documents if they have fewer."
    )
    notes.append("better: the interval of the drop beyond that of random words lies above 0.")
    shown = {
        "faithfulness": pd.concat(tables, ignore_index=True),
        "agreement": pd.concat(agreements, ignore_index=True),
    }
    return Section("Does attention explain the decisions?", notes, shown, pictures)


def _some_documents(words: pd.DataFrame, pairs: int) -> set[str]:
    """A fixed random sample of documents with about this many pairs: gradients of all pairs take long."""
    sizes = words.groupby("document")["instance"].nunique().sample(frac=1, random_state=1)
    return set(sizes.index[sizes.cumsum().shift(fill_value=0) < pairs])


def _restrict(words: pd.DataFrame, documents: set[str]) -> pd.DataFrame:
    """The rows of these documents."""
    return words[words["document"].isin(documents)]
