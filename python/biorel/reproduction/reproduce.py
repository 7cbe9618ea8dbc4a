"""Reproduce the paper's tables and figures, next to the printed ones."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import pandas as pd
from biorel._types import Engine, Head, PathLike
from biorel.data.corpus import Corpus, load_corpus
from biorel.errors import BiorelError, ConfigError
from biorel.experiments.compare import compare
from biorel.experiments.comparison import Comparison
from biorel.interpretation.faithfulness import faithfulness, rank_agreement
from biorel.interpretation.heatmap import heatmap
from biorel.interpretation.stems import compare_stems, top_stems
from biorel.plotting import plot_faithfulness, plot_stems
from biorel.reproduction import published
from biorel.reproduction.report import Report, Section

Item: TypeAlias = Literal["table1", "table3", "table4", "table5", "table6", "figure3", "figure4", "faithfulness", "all"]
_CORPORA = ("aimed", "ddi", "chemprot")
# The paper does not say from how many words on a stem counts in Table V, on which it depends.
_MIN_COUNTS = (3, 20, 50)


class Preset(NamedTuple):
    """How much is done."""

    encoders: tuple[str, ...]
    seeds: tuple[int, ...]
    folds: Literal["all", "first"]
    settings: dict[str, Any]
    words: str


# The paper's settings are the defaults of `finetune`.
PRESETS = {
    "paper": Preset(("biobert", "scibert", "bluebert"), (1,), "all", {}, "The paper's settings"),
    "quick": Preset(
        ("minilm",),
        (1,),
        "first",
        {"max_steps": 300, "learning_rate": 1e-4},
        "NOT the paper's settings: a small encoder and few steps",
    ),
}


class Reproduction:
    """Reproduced tables and figures. Returned by ``reproduce``.

    Attributes
    ----------
    tables : dict of str to pandas.DataFrame
        By name: ``table1``, ``table3``, ...
    directory : pathlib.Path
        Where it lies: ``report.html``, which needs no other file, ``report.md``, one CSV file per table, the pictures,
        and a run directory per corpus, from which an interrupted call resumes.
    """

    def __init__(self, report: Report, directory: Path) -> None:
        self._report = report
        self.directory = directory
        self.tables = {name: table for section in report.sections for name, table in section.tables.items()}

    def _repr_html_(self) -> str:
        return self._report.html_body()

    def __repr__(self) -> str:
        """The tables, one below the other."""
        return self._report.markdown()


def reproduce(
    what: Item | Sequence[Item] = "all",
    *,
    corpora: PathLike | Mapping[str, PathLike | Corpus],
    directory: PathLike = "reproduction",
    preset: Literal["paper", "quick"] = "paper",
    encoders: Sequence[str | PathLike] | Mapping[str, PathLike] | None = None,
    seeds: Sequence[int] | None = None,
    folds: Literal["all", "first"] | None = None,
    jobs: int | None = None,
    engine: Engine = "local",
    progress: bool = True,
    **settings: Any,
) -> Reproduction:
    """Make the paper's tables and figures again, beside the printed ones.

    What is missing is trained; what an earlier call with the same settings finished, or half finished, is used.

    Parameters
    ----------
    what : str or sequence of str
        ``table1`` (sizes), ``table3`` (the heads), ``table4`` (their variants), ``table5`` (stems), ``table6``
        (encoders), ``figure3`` (heat maps), ``figure4`` (stems, related against unrelated), ``faithfulness`` (not in
        the paper: does attention explain the decisions?), or ``all``.
    corpora : path, or mapping of str to path or Corpus
        A folder with ``aimed``, ``ddi`` and ``chemprot`` in it (folders, or files so named), or each by its name. What
        is not there is left out, and the report says so.
    directory : path
        Where to keep and write everything, the models of the attention head included.
    preset : {"paper", "quick"}
        ``quick`` takes a small encoder, few steps and one fold: it shows that all works, not what the paper shows.
    encoders : sequence or mapping, optional
        The first is used for all but ``table6``, which takes each in turn. A mapping names directories:
        ``{"biobert": "models/biobert-v1.1"}``. Only those called as in the paper have printed figures beside them.
    seeds : sequence of int, optional
        Seeds of the training; means and spread are over them (and over AIMed's folds).
    folds : {"all", "first"}, optional
        All ten of AIMed's folds, as in the paper, or the first alone; ``quick`` takes the first by default.
    jobs, engine
        How many trials at once, and where; as ``compare`` takes them.
    progress : bool
        Show progress bars.
    **settings
        Other settings of ``finetune``, instead of the preset's.

    Returns
    -------
    Reproduction
        The tables; a notebook shows the report.

    Raises
    ------
    ConfigError
        For an unknown item, preset or choice of folds, or when none of the corpora is there.

    Examples
    --------
    >>> sample = {"ddi": biorel.load_sample("ddi")}
    >>> made = biorel.reproduce("table1", corpora=sample, directory=folder)
    >>> made.tables["table1"][["corpus", "split", "published", "pairs"]].values.tolist()
    [['ddi', 'train', 18779, 406], ['ddi', 'test', 5761, 142]]
    """
    wanted = _checked_items([what] if isinstance(what, str) else list(what))
    if preset not in PRESETS:
        raise ConfigError(f"preset: must be one of {', '.join(PRESETS)}, not {preset!r}", "preset")
    if folds not in (None, "all", "first"):
        raise ConfigError(f"folds: must be all or first, not {folds!r}", "folds")
    study = _Study(
        _read_corpora(corpora),
        directory=Path(directory),
        preset=PRESETS[preset],
        encoders=encoders,
        seeds=seeds,
        folds=folds or PRESETS[preset].folds,
        trials={"jobs": jobs, "engine": engine, "progress": progress},
        settings=settings,
    )
    study.directory.mkdir(parents=True, exist_ok=True)
    missing = [name for name in _CORPORA if name not in study.corpora]
    sections = [_ITEMS[item](study) for item in wanted]
    head = []
    if study.precisions:  # nothing is trained for Table I
        head = [f"{study.preset.words}.", f"Encoder {study.encoder}; seeds {', '.join(map(str, study.seeds))};"]
        head.append(f"{study.changes()}. Computed in {' and '.join(sorted(study.precisions))}.")
        if "aimed" in study.corpora and study.folds == "first":
            head.append("Of AIMed's ten folds only the first.")
    if missing:
        head.append(f"Left out, as the corpus was not given: {', '.join(published.TASKS[name] for name in missing)}.")
    report = Report("biorel: the paper's tables and figures, made again", head, sections)
    report.write(study.directory)
    return Reproduction(report, study.directory)


def _checked_items(items: list[Any]) -> list[str]:
    names = [*_ITEMS, "all"]
    for item in items:
        if item not in names:
            raise ConfigError(f"what: must be one of {', '.join(names)}, not {item!r}", "what")
    return list(_ITEMS) if "all" in items else [item for item in _ITEMS if item in items]


def _read_corpora(given: PathLike | Mapping[str, PathLike | Corpus]) -> dict[str, Corpus]:
    found: dict[str, PathLike | Corpus] = {}
    if isinstance(given, Mapping):
        for name in given:
            if name not in _CORPORA:
                raise ConfigError(f"corpora: `{name}` is not one of {', '.join(_CORPORA)}", "corpora")
        found = dict(given)
    else:
        entries = sorted(Path(given).iterdir())
        for name in _CORPORA:
            for entry in entries:
                if entry.name.lower().startswith(name) and name not in found:
                    found[name] = _innermost(entry)
    if not found:
        raise ConfigError(f"corpora: {given} has none of {', '.join(_CORPORA)} in it", "corpora")
    corpora = {}
    for name in (name for name in _CORPORA if name in found):
        place = found[name]
        splits: Any = "blue" if name == "ddi" else None
        corpora[name] = place if isinstance(place, Corpus) else load_corpus(name, place, splits=splits)
    return corpora


def _innermost(place: Path) -> Path:
    """A folder that holds one .zip, or AIMed's table, stands for that file."""
    if place.is_dir():
        files = [*place.glob("*.zip"), *place.glob("*pairs*.tsv")]
        if len(files) == 1:
            return files[0]
    return place


class _Study:
    """The corpora, the settings, and the comparisons that the items share."""

    def __init__(
        self,
        corpora: dict[str, Corpus],
        *,
        directory: Path,
        preset: Preset,
        encoders: Sequence[str | PathLike] | Mapping[str, PathLike] | None,
        seeds: Sequence[int] | None,
        folds: Literal["all", "first"],
        trials: Mapping[str, Any],
        settings: Mapping[str, Any],
    ) -> None:
        self.corpora = corpora
        self.directory = directory
        self.preset = preset
        if encoders is None:
            encoders = preset.encoders
        if isinstance(encoders, str) or not encoders:
            raise ConfigError(f"encoders: must be a list or a mapping, not {encoders!r}", "encoders")
        named = encoders if isinstance(encoders, Mapping) else {os.fspath(one): one for one in encoders}
        self.encoders: dict[str, PathLike] = dict(named)
        self.encoder = next(iter(self.encoders))
        self.seeds = list(preset.seeds if seeds is None else seeds)
        self.folds = folds
        self.trials = trials
        self.settings = {**preset.settings, **settings}
        self.precisions: set[str] = set()
        self._words: dict[tuple[str, int], pd.DataFrame] = {}

    def changes(self) -> str:
        """The settings that are not the paper's."""
        told = [
            f"{name}={value!r}"
            for name, value in self.settings.items()
            if name not in ("threads", "device", "precision")
        ]
        return ", ".join(told) or "settings of the paper"

    def compare(self, name: str, heads: Sequence[Any], encoder: str | None = None) -> Comparison:
        """Train what is missing, in the corpus's own run directory."""
        corpus = self.corpora[name]
        folds: Any = None
        if "train" not in corpus.splits:
            given = corpus._core.given_folds
            folds = "given" if given else 10
            if self.folds == "first":
                corpus, folds = corpus.fold(0), None
        where: Any = self.encoders[encoder or self.encoder]
        # Of these the weights are read later, for Table V and the figures.
        saved: list[Head] = ["attention"] if "attention" in heads else []
        with warnings.catch_warnings():
            # What is cut or torn is counted in the tables; the same warning for every trial would hide the others.
            warnings.filterwarnings("ignore", message=".*training instances were cut.*")
            made = compare(
                corpus,
                directory=self.directory / "runs" / name,
                heads=heads,
                encoders=[where],
                seeds=self.seeds,
                folds=folds,
                save_models=saved,
                **self.trials,
                **self.settings,
            )
        self.precisions.add(made.settings["precision"])
        return made

    def words(self, name: str, seed: int | None = None) -> pd.DataFrame:
        """Word weights of the attention head on the test instances."""
        seed = self.seeds[0] if seed is None else seed
        if (name, seed) not in self._words:
            self._words[name, seed] = self.compare(name, ["attention"]).attention("attention", seed=seed)
        return self._words[name, seed]

    def untrained(self, name: str) -> pd.DataFrame:
        """The same word weights of the model before its training: what the figure shows without any learning."""
        return self.compare(name, ["attention"]).attention("attention", seed=self.seeds[0], untrained=True)


def _table1(study: _Study) -> Section:
    rows = []
    for name, corpus in study.corpora.items():
        for row in corpus.statistics().to_dict("records"):
            printed = published.PAIRS.get(name, {}).get(str(row["split"]))
            ours = {"corpus": name, "split": row["split"], "published": printed, "pairs": row["pairs"]}
            ours["difference"] = None if printed is None else row["pairs"] - printed
            labels = "; ".join(f"{label} {row[label]:,}" for label in corpus.labels)
            ours |= {
                "documents": row["documents"],
                "sentences": row["sentences"],
                "labels": labels,
                "lost": row["lost"],
            }
            rows.append(ours)
    table = pd.DataFrame(rows).astype({"published": "Int64", "difference": "Int64"})
    notes = [
        "The printed table swaps two rows: 19,460 / 11,820 / 16,943 is ChemProt, 18,779 / 7,244 / 5,761 is DDI; here "
        "they stand where they belong. ChemProt's pairs depend on the sentence splitter. lost: gold positives that "
        "could not become a pair."
    ]
    return Section("Table I: the corpora", notes, {"table1": table})


def _results(study: _Study, heads: Sequence[str], *, first: bool) -> tuple[pd.DataFrame, list[str]]:
    """A row for each model and corpus: printed, ours, difference."""
    rows: list[dict[str, Any]] = []
    notes = []
    for name in study.corpora:
        if first:
            rows.append({"model": "SOTA then", "head": None, "corpus": name})
            rows[-1] |= _printed(published.STATE_OF_THE_ART[name])
        comparison = study.compare(name, heads)
        for head in heads:
            printed = published.RESULTS[head][name]
            rows.append({"model": published.MODELS[head], "head": head, "corpus": name, **_printed(printed)})
            rows[-1] |= _ours(comparison, head, printed)
        notes.append(f"{published.TASKS[name]}: {comparison.results.protocol}.")
        notes += [f"Failed: {row.head}, seed {row.seed}: {row.error}" for row in _tuples(comparison.failures)]
    if study.encoder != "biobert":
        notes.insert(0, f"The printed figures are BioBERT's, ours are of {study.encoder}: differences are not errors.")
    return _counts(pd.DataFrame(rows)), notes


def _printed(figures: published.Figures) -> dict[str, float]:
    return {f"published_{name}": value for name, value in figures._asdict().items()}


def _ours(comparison: Comparison, head: str, printed: published.Figures | None) -> dict[str, Any]:
    (result,) = comparison.results[comparison.results["head"] == head].to_dict("records")
    trials = comparison.trials[comparison.trials["head"] == head]
    ours = {name: round(100 * result[name], 2) for name in ("precision", "recall", "f1", "sd")}
    ours["difference"] = None if printed is None else round(ours["f1"] - printed.f1, 2)
    ours["seeds"] = trials["seed"].nunique()
    return {**ours, "trials": result["trials"], "minutes": round(trials["seconds"].sum() / 60, 1)}


def _table3(study: _Study) -> Section:
    table, notes = _results(study, published.TABLE_3, first=True)
    return Section("Table III: the whole last layer against [CLS] alone", notes, {"table3": table})


def _table4(study: _Study) -> Section:
    table, notes = _results(study, published.TABLE_4, first=False)
    return Section("Table IV: without [CLS], and [CLS] of all layers", notes, {"table4": table})


def _table5(study: _Study) -> Section:
    tables, by_class, notes, protocol = [], [], [], ""
    for name in study.corpora:
        words = study.words(name)
        printed, triggers = published.STEMS[name], published.TRIGGERS[name]
        for weight, min_count in itertools.product(("sum", "mean"), _MIN_COUNTS):
            kind: Any = weight
            top = top_stems(words, 10, weight=kind, min_count=min_count, samples=1000 if weight == "sum" else 0)
            protocol = top.attrs["protocol"] if (weight, min_count) == ("sum", _MIN_COUNTS[0]) else protocol
            top = top.assign(in_paper=top["stem"].isin(printed), trigger=top["stem"].isin(triggers))
            places: dict[str, Any] = {
                "corpus": name,
                "pieces": weight,
                "min_count": min_count,
                "rank": range(1, len(top) + 1),
            }
            for place, (column, values) in enumerate({**places, "published": printed[: len(top)]}.items()):
                top.insert(place, column, values)
            tables.append(top)
            every = top_stems(words, None, weight=kind, min_count=min_count, samples=0)
            base = every["stem"].isin(triggers).mean()
            notes.append(
                f"{published.TASKS[name]}, stems of {min_count} words or more, {weight} over pieces: "
                f"{top['in_paper'].sum()} of our top {len(top)} are in the printed ten; {top['trigger'].sum()} are "
                f"known trigger words, against {100 * base:.0f} % of all {len(every):,} such stems."
            )
        classes = top_stems(words, 10, by_label=True, samples=0).drop(columns=["low", "high", "note"])
        classes.insert(0, "corpus", name)
        classes.insert(1, "min_count", 3)
        by_class.append(classes)
    notes.append(
        f"{protocol}. Which stems these are depends on the least number of words more than on the model, and on "
        "whether the weights of a word's pieces are added (the paper's reading, the first tables) or averaged; the "
        "paper states neither. By class: stems of 3 words or more. Known trigger words: "
        "biorel.reproduction.published.TRIGGERS."
    )
    shown = {"table5": pd.concat(tables, ignore_index=True), "table5_by_class": pd.concat(by_class, ignore_index=True)}
    return Section("Table V: the stems with the most attention", notes, shown)


def _table6(study: _Study) -> Section:
    rows, notes = [], []
    for encoder in study.encoders:
        for name in study.corpora:
            printed = published.ENCODERS.get(encoder, {}).get(name)
            row: dict[str, Any] = {"encoder": encoder, "corpus": name}
            row |= _printed(printed) if printed else {}
            try:
                comparison = study.compare(name, ["cls"], encoder)
            except (BiorelError, FileNotFoundError) as error:
                notes.append(f"{encoder}: {error}")
                rows.append(row)
                continue
            rows.append({**row, **_ours(comparison, "cls", printed)})
    table = _counts(pd.DataFrame(rows))
    return Section("Table VI: other encoders, [CLS] alone", list(dict.fromkeys(notes)), {"table6": table})


def _figure3(study: _Study) -> Section:
    section = Section("Fig. 3: attention over the words of a sentence", ["Related pairs that were classified right."])
    for name in study.corpora:
        words = study.words(name)
        made = study.compare(name, ["attention"]).predictions("attention", seed=study.seeds[0])
        right = made[(made["gold"] == made["predicted"]) & (made["gold"] != study.corpora[name].negative)]
        best = right.sort_values(["probability", "id"], ascending=[False, True])["id"].head(3).tolist()
        if best:
            section.html[f"figure3-{name}"] = heatmap(words, best).html()
        else:
            section.notes.append(f"{published.TASKS[name]}: no related pair was classified right.")
    return section


def _figure4(study: _Study) -> Section:
    tables, pictures, notes = [], {}, []
    for name in study.corpora:
        words = study.words(name)
        near = words[(words["distance"] <= 3) & ~words["is_entity"]]
        there = [stem for stem in published.COMPARED[name] if (near["stem"] == stem).any()]
        notes += [
            f"{published.TASKS[name]}: `{stem}` does not occur near the entities of the test instances."
            for stem in published.COMPARED[name]
            if stem not in there
        ]
        if not there:
            continue
        table = compare_stems(words, there, baseline=study.untrained(name))
        pictures[f"figure4-{name}"] = plot_stems(table)
        notes.append(f"{published.TASKS[name]}: {table.attrs['protocol']}.")
        table.insert(0, "corpus", name)
        tables.append(table)
    notes.append(
        "positive and negative are the paper's means. Weights of a sentence sum to 1 and related pairs stand in "
        "shorter sentences, so these differ without any learning: baseline_positive and baseline_negative are those "
        "of the same model before its training. The pictures, the difference and its test are of the weight relative "
        "to the uniform one, and baseline_difference and baseline_p say what is left of them untrained."
    )
    shown = {"figure4": pd.concat(tables, ignore_index=True)} if tables else {}
    return Section("Fig. 4: stems in related and unrelated pairs", notes, shown, pictures)


def _faithfulness(study: _Study) -> Section:
    tables: list[pd.DataFrame] = []
    agreements: list[pd.DataFrame] = []
    pictures, notes = {}, []
    for name in study.corpora:
        comparison = study.compare(name, ["attention"])
        summary = faithfulness(comparison.mask_words("attention", seed=study.seeds[0], limit=200, draws=5))
        if len(summary):
            pictures[f"faithfulness-{name}"] = plot_faithfulness(summary)
        notes.append(f"{published.TASKS[name]}: {summary.protocol}.")
        seed = study.seeds[0]
        documents = _some_documents(study.words(name), 1000)
        kinds = {"attention": _of(study.words(name), documents)}
        kinds |= {f"attention, seed {other}": _of(study.words(name, other), documents) for other in study.seeds[1:]}
        for kind in ("encoder", "gradient"):
            kinds[kind] = comparison.attention("attention", seed=seed, kind=kind, documents=documents)
        agreement = rank_agreement(kinds)
        for table, all_tables in ((summary, tables), (agreement, agreements)):
            plain = pd.DataFrame(table)
            plain.insert(0, "corpus", name)
            all_tables.append(plain)
    notes.append("Agreement is over documents drawn until they have 1,000 pairs, or over all where there are fewer.")
    notes.append("better: the interval of what the drop is over that with random words lies above 0.")
    shown = {
        "faithfulness": pd.concat(tables, ignore_index=True),
        "agreement": pd.concat(agreements, ignore_index=True),
    }
    return Section("Does attention explain the decisions?", notes, shown, pictures)


def _some_documents(words: pd.DataFrame, pairs: int) -> set[str]:
    """Documents drawn, always the same, until they have so many pairs: a gradient of every pair takes long."""
    sizes = words.groupby("document")["instance"].nunique().sample(frac=1, random_state=1)
    return set(sizes.index[sizes.cumsum().shift(fill_value=0) < pairs])


def _of(words: pd.DataFrame, documents: set[str]) -> pd.DataFrame:
    return words[words["document"].isin(documents)]


_ITEMS: dict[str, Callable[[_Study], Section]] = {
    "table1": _table1,
    "table3": _table3,
    "table4": _table4,
    "table5": _table5,
    "table6": _table6,
    "figure3": _figure3,
    "figure4": _figure4,
    "faithfulness": _faithfulness,
}


def _counts(table: pd.DataFrame) -> pd.DataFrame:
    """Counts stay whole numbers where some are missing."""
    return table.astype({name: "Int64" for name in ("seeds", "trials") if name in table.columns})


def _tuples(table: pd.DataFrame) -> list[Any]:
    return list(table.itertuples())
