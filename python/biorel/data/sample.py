"""The synthetic sample corpus that ships with biorel: invented names, generated sentences, no medical content."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from biorel.data.corpus import Corpus
from biorel.data.loading import load_corpus
from biorel.errors import ConfigError

_FOLDERS = {"aimed": "ppi", "ddi": "ddi", "chemprot": "chemprot"}


def sample_path(name: str = "ddi") -> Path:
    """The path of the synthetic sample of a corpus, in the corpus's own format.

    Parameters
    ----------
    name : {"ddi", "aimed", "chemprot"}
        The corpus whose format it has.

    Returns
    -------
    pathlib.Path
        A folder with the layout of the original release.

    Raises
    ------
    ConfigError
        For another name.

    Examples
    --------
    >>> sorted(path.name for path in biorel.sample_path("ddi").iterdir())
    ['Test', 'Train']
    """
    if name not in _FOLDERS:
        raise ConfigError(f"name: there is no sample of `{name}`; choose one of {', '.join(_FOLDERS)}", "name")
    return Path(__file__).parent / "sample" / _FOLDERS[name]


def load_sample(name: str = "ddi") -> Corpus:
    """Read the synthetic sample of a corpus: ``load_corpus(name, sample_path(name))``.

    It serves for tests and first steps; scores on it say nothing about real text.

    Parameters
    ----------
    name : {"ddi", "aimed", "chemprot"}
        The corpus whose format it has.

    Returns
    -------
    Corpus
        The sample.

    Examples
    --------
    >>> biorel.load_sample("ddi").splits
    ['train', 'test']
    """
    return load_corpus(name, sample_path(name))


def is_sample(corpus: Corpus, splits: Sequence[str]) -> bool:
    """Whether every sentence of these splits is one of the samples'."""
    known = _sentences()
    return all(text in known for split in splits for text in corpus.sentences(split)["text"])


@lru_cache(maxsize=1)
def _sentences() -> frozenset[str]:
    samples = [load_sample(name) for name in _FOLDERS]
    return frozenset(text for sample in samples for split in sample.splits for text in sample.sentences(split)["text"])
