"""Reproduce the paper's tables and figures, next to the printed ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from biorel._types import Engine, PathLike
from biorel.data.corpus import Corpus
from biorel.errors import ConfigError
from biorel.reproduction import published
from biorel.reproduction.attention import attention_faithfulness, figure3, figure4, table5
from biorel.reproduction.report import Report, Section
from biorel.reproduction.scores import table1, table3, table4, table6
from biorel.reproduction.study import CORPORA, PLANS, Study, read_corpora
from biorel.training.presets import PairPreset

Item: TypeAlias = Literal["table1", "table3", "table4", "table5", "table6", "figure3", "figure4", "faithfulness", "all"]

_ITEMS: dict[str, Callable[[Study], Section]] = {
    "table1": table1,
    "table3": table3,
    "table4": table4,
    "table5": table5,
    "table6": table6,
    "figure3": figure3,
    "figure4": figure4,
    "faithfulness": attention_faithfulness,
}


class Reproduction:
    """Reproduced tables and figures. Returned by ``reproduce``.

    Attributes
    ----------
    tables : dict of str to pandas.DataFrame
        The tables by name: ``table1``, ``table3``, ...
    directory : pathlib.Path
        The output directory: ``report.html``, which needs no other file, ``report.md``, one CSV file per table, the
        figures, and a run directory per corpus, from which an interrupted call resumes.
    """

    def __init__(self, report: Report, directory: Path) -> None:
        self._report = report
        self.directory = directory
        self.tables = {name: table for section in report.sections for name, table in section.tables.items()}

    def _repr_html_(self) -> str:
        return self._report.html_body()

    def __repr__(self) -> str:
        """The report in Markdown."""
        return self._report.markdown()


def reproduce(
    what: Item | Sequence[Item] = "all",
    *,
    corpora: PathLike | Mapping[str, PathLike | Corpus],
    directory: PathLike = "reproduction",
    preset: PairPreset = "paper",
    encoders: Sequence[str | PathLike] | Mapping[str, PathLike] | None = None,
    seeds: Sequence[int] | None = None,
    folds: Literal["all", "first"] | None = None,
    jobs: int | None = None,
    engine: Engine = "local",
    progress: bool = True,
    **settings: Any,
) -> Reproduction:
    """Reproduce the paper's tables and figures, next to the printed ones.

    Only missing trials are trained: results and checkpoints of an earlier call with the same settings are used.

    Parameters
    ----------
    what : str or sequence of str
        ``table1`` (sizes), ``table3`` (the heads), ``table4`` (their variants), ``table5`` (stems), ``table6``
        (encoders), ``figure3`` (heat maps), ``figure4`` (stems, related against unrelated), ``faithfulness`` (not in
        the paper: does attention explain the decisions?), or ``all``.
    corpora : path, or mapping of str to path or Corpus
        A folder that contains ``aimed``, ``ddi`` and ``chemprot`` (folders or files with these names), or a mapping
        from these names. Missing corpora are left out, and the report says so.
    directory : path
        Where to write the report and the trials, including the models of the attention head.
    preset : {"paper", "standard", "quick"}
        ``paper``: BioBERT, SciBERT and BlueBERT with the paper's settings, days on a CPU. ``standard``: MiniLM with all
        pairs, two seeds, and a learning rate and epochs chosen on training data, hours. ``quick``: MiniLM with few
        steps and one fold, a check that everything runs, not a reproduction.
    encoders : sequence or mapping, optional
        The first is used for all items but ``table6``, which uses each in turn. A mapping gives names to directories:
        ``{"biobert": "models/biobert-v1.1"}``. Only encoders with the paper's names are compared with printed figures.
    seeds : sequence of int, optional
        Training seeds; means and standard deviations are over them (and over AIMed's folds).
    folds : {"all", "first"}, optional
        All ten folds of AIMed, as in the paper, or only the first; the default of ``quick`` is the first.
    jobs, engine
        How many trials run concurrently, and where; as in ``compare``.
    progress : bool
        Show progress bars.
    **settings
        Other settings of ``finetune``; they override the preset's.

    Returns
    -------
    Reproduction
        The tables; notebooks display it as the report.

    Raises
    ------
    ConfigError
        For an unknown item, preset or choice of folds, or when no corpus is found.

    Examples
    --------
    >>> sample = {"ddi": biorel.load_sample("ddi")}
    >>> reproduction = biorel.reproduce("table1", corpora=sample, directory=folder)
    >>> reproduction.tables["table1"][["corpus", "split", "published", "pairs"]].values.tolist()
    [['ddi', 'train', 18779, 406], ['ddi', 'test', 5761, 142]]
    """
    items = _checked_items([what] if isinstance(what, str) else list(what))
    if preset not in PLANS:
        raise ConfigError(f"preset: must be one of {', '.join(PLANS)}, not {preset!r}", "preset")
    if folds not in (None, "all", "first"):
        raise ConfigError(f"folds: must be all or first, not {folds!r}", "folds")
    study = Study(
        read_corpora(corpora),
        directory=Path(directory),
        preset=preset,
        encoders=encoders,
        seeds=seeds,
        folds=folds,
        trials={"jobs": jobs, "engine": engine, "progress": progress},
        settings=settings,
    )
    study.directory.mkdir(parents=True, exist_ok=True)
    missing = [name for name in CORPORA if name not in study.corpora]
    sections = [_ITEMS[item](study) for item in items]
    head = []
    if study.precisions:  # nothing is trained for Table I
        head = [f"{study.description}.", f"Encoder {study.encoder}; seeds {', '.join(map(str, study.seeds))};"]
        head.append(f"{study.changes()}. Computed in {' and '.join(sorted(study.precisions))}.")
        if "aimed" in study.corpora and study.folds == "first":
            head.append("Only the first of AIMed's ten folds was run.")
    if missing:
        head.append(
            f"Left out because the corpus was not given: {', '.join(published.TASKS[name] for name in missing)}."
        )
    report = Report("biorel: the paper's tables and figures, reproduced", head, sections)
    report.write(study.directory)
    return Reproduction(report, study.directory)


def _checked_items(items: list[Any]) -> list[str]:
    names = [*_ITEMS, "all"]
    for item in items:
        if item not in names:
            raise ConfigError(f"what: must be one of {', '.join(names)}, not {item!r}", "what")
    return list(_ITEMS) if "all" in items else [item for item in _ITEMS if item in items]
