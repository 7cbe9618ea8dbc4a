"""Encoders and models from and to the Hugging Face hub, through ``huggingface_hub`` and its cache."""

from __future__ import annotations

import fnmatch
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from biorel import _biorel
from biorel._biorel import __version__
from biorel.errors import CheckpointError, ConfigError


class Published(NamedTuple):
    """An encoder of the field under its name on the hub, and what its files do not always say: its casing."""

    hub_id: str
    casing: str


# The encoders that the paper and its successors use.
ALIASES = {
    "biobert": Published("dmis-lab/biobert-v1.1", "cased"),
    "scibert": Published("allenai/scibert_scivocab_uncased", "uncased"),
    "bluebert": Published("bionlp/bluebert_pubmed_mimic_uncased_L-12_H-768_A-12", "uncased"),
    "pubmedbert": Published("microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract", "uncased"),
    "biolinkbert": Published("michiyasunaga/BioLinkBERT-base", "uncased"),
}
CONFIGS = ("config.json", "bert_config.json")
VOCABULARIES = ("tokenizer.json", "vocab.txt")
BESIDE = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
# What makes a model's repository a relation model of biorel, and its card.
MODEL_FILE, CARD = "biorel.json", "README.md"


def could_be_hub_id(name: str) -> bool:
    """Whether a name that is no directory has the form ``owner/name``, perhaps with a revision."""
    return name.partition("@")[0].count("/") == 1 and not name.startswith(("/", ".", "~")) and "\\" not in name


def fetch_model(directory: str | os.PathLike[str]) -> Path:
    """The directory of a saved relation model: the one that is given, or of a model of the hub in its cache."""
    path = Path(directory)
    name = os.fspath(directory)
    # A path is meant as a path; only a str can be a name.
    if _biorel.Model.place(name).exists() or not isinstance(directory, str) or not could_be_hub_id(name):
        return path
    hub_id, _, revision = name.partition("@")
    return fetch(name, hub_id, revision or None, model=True)


def push(
    folder: Path,
    repo_id: str,
    *,
    private: bool | None,
    token: str | bool | None,
    revision: str | None,
    commit_message: str | None,
) -> str:
    """Upload a folder as a model of the hub, in one commit; returns the commit's address."""
    try:
        import huggingface_hub  # noqa: PLC0415  (an extra)
    except ImportError as error:
        message = 'repo_id: to push a model needs huggingface_hub: run `pip install "biorel[hub]"`'
        raise ConfigError(message, "repo_id") from error
    api = huggingface_hub.HfApi(token=token, library_name="biorel", library_version=__version__)
    try:
        made = api.create_repo(repo_id, repo_type="model", private=private, exist_ok=True)
        commit = api.upload_folder(
            # The hub adds the owner to a name that has none.
            repo_id=made.repo_id,
            repo_type="model",
            folder_path=folder,
            revision=revision,
            commit_message=commit_message or f"Model saved by biorel {__version__}",
        )
    except Exception as error:  # of the hub's library, or of the one that it reaches the network with
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
            raise  # the machine's own
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        message = f"repo_id: `{repo_id}` cannot be pushed to: {type(error).__name__}: {said}"
        raise ConfigError(message, "repo_id") from error
    return str(commit.commit_url)


def fetch(name: str, hub_id: str, revision: str | None, *, model: bool = False) -> Path:
    """The directory of a model in the hub's cache; what is not there is downloaded.

    A model that is complete in the cache is used as it is, without a look at the network; a newer version on the hub is
    fetched when the cached one is deleted, or named by its revision. Of the weights only one form is fetched, in the
    core's order: safetensors, PyTorch, TensorFlow, Flax.

    Parameters
    ----------
    name : str
        What the user wrote, for messages.
    hub_id : str
        ``owner/name`` on the hub.
    revision : str or None
        A branch, tag or commit.
    model : bool
        Whether a relation model of biorel is meant, not an encoder.

    Returns
    -------
    Path
        The directory.

    Raises
    ------
    ConfigError
        When there is no such model, it cannot be reached, or ``huggingface_hub`` is not installed.
    CheckpointError
        When the repository does not hold a BERT in a form that can be read.

    Examples
    --------
    >>> from biorel.models import hub
    >>> hub.fetch("nobody/nothing at all", "nobody/nothing at all", None)
    Traceback (most recent call last):
    biorel.errors.ConfigError: encoder: `nobody/nothing at all` is not a directory here, and not a name that the hub ...
    """
    field = "directory" if model else "encoder"
    needed = (MODEL_FILE,) if model else ()
    try:
        import huggingface_hub  # noqa: PLC0415  (an extra)
    except ImportError as error:
        message = (
            f"{field}: `{name}` is not a directory here, and to fetch {hub_id} from the hub needs huggingface_hub: run "
            '`pip install "biorel[hub]"`, or download the model and give its directory'
        )
        raise ConfigError(message, field) from error
    try:
        cached = _cached(huggingface_hub, hub_id, revision, needed)
        if cached is not None:
            return cached
        info = huggingface_hub.HfApi().model_info(hub_id, revision=revision)
        files = needed_files(hub_id, [file.rfilename for file in info.siblings or []], needed)
        paths = [huggingface_hub.hf_hub_download(hub_id, file, revision=revision) for file in files]
    except CheckpointError:
        raise
    except Exception as error:  # of the hub's library, or of the one that it reaches the network with
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
            raise  # the machine's own: a full disk, a folder that cannot be written
        problem = _problem(error, hub_id, revision)
        raise ConfigError(f"{field}: `{name}` is not a directory here, and {problem}", field) from error
    folder = Path(paths[0]).parent
    if not _complete(folder, needed):
        raise CheckpointError(f"{folder}: {hub_id} changed on the hub while it was fetched; try again")
    return folder


def _problem(error: Exception, hub_id: str, revision: str | None) -> str:
    from huggingface_hub import errors  # noqa: PLC0415

    shown = hub_id if revision is None else f"{hub_id}, revision {revision},"
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if isinstance(error, errors.HFValidationError):
        return f"not a name that the hub could have ({said})"
    if isinstance(error, errors.GatedRepoError):
        return f"{shown} is only for those who accept its terms: do so on its page of the hub, then `hf auth login`"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{hub_id} has no revision `{revision}` on the hub"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"the hub has no model {hub_id}, or it is private and you are not logged in (`hf auth login`)"
    return (
        f"{shown} is not complete in the cache, and cannot be fetched ({type(error).__name__}: {said}). Fetch it where "
        "there is a network, or download the model and give its directory"
    )


def needed_files(hub_id: str, files: Iterable[str], needed: Sequence[str] = ()) -> list[str]:
    """Of a repository's files those that make an encoder, with one form of its weights, and those `needed` besides."""
    there = sorted(file for file in files if "/" not in file)
    for file in needed:
        if file not in there:
            hint = "; an encoder is fine-tuned first, see biorel.finetune" if set(CONFIGS) & set(there) else ""
            raise CheckpointError(f"{hub_id} holds no {file}: it is not a relation model that biorel saved{hint}")
    config = [file for file in CONFIGS if file in there]
    vocabulary = [file for file in VOCABULARIES if file in there]
    weights = next((found for found in _weight_forms(there) if found), [])
    for found, what in ((config, CONFIGS), (vocabulary, VOCABULARIES), (weights, ("weights of a BERT",))):
        if not found:
            listed = ", ".join(there[:12]) or "nothing"
            raise CheckpointError(f"{hub_id} holds no {' or '.join(what)} at its top; it holds {listed}")
    beside = [file for file in (*BESIDE, *((*needed, CARD) if needed else ())) if file in there]
    return [*config, *vocabulary, *beside, *weights]


def _weight_forms(there: list[str]) -> Iterable[list[str]]:
    """Every form that weights can have, the core's first choice first; empty where it is not there."""

    def matching(pattern: str) -> list[str]:
        return [file for file in there if fnmatch.fnmatchcase(file, pattern)]

    for single, index, shards in (
        ("model.safetensors", "model.safetensors.index.json", "model-*.safetensors"),
        ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*.bin"),
    ):
        yield matching(single)
        yield [index, *matching(shards)] if index in there and matching(shards) else []
    for index in matching("*.index"):
        data = matching(f"{index.removesuffix('.index')}.data-*")
        yield [index, *data] if data else []
    yield matching("flax_model.msgpack")


def _cached(hub: Any, hub_id: str, revision: str | None, needed: Sequence[str]) -> Path | None:
    """The model's directory in the cache, if all of it is there."""
    for file in CONFIGS:
        path = hub.try_to_load_from_cache(hub_id, file, revision=revision)
        if isinstance(path, str) and _complete(Path(path).parent, needed):
            return Path(path).parent
    return None


def _complete(folder: Path, needed: Sequence[str]) -> bool:
    # A broken link is a file whose content was deleted from the cache: it does not exist.
    there = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    if not set(CONFIGS) & set(there) or not set(VOCABULARIES) & set(there) or not set(needed) <= set(there):
        return False
    weights = next((found for found in _weight_forms(there) if found), [])
    for index in (file for file in weights if file.endswith(".index.json")):
        named = json.loads((folder / index).read_text(encoding="utf-8"))["weight_map"].values()
        return set(named) <= set(there)
    return bool(weights)
