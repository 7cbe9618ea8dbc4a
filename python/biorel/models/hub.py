"""Download of encoders and models from the Hugging Face hub, and upload, through ``huggingface_hub`` and its cache."""

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
    """A published encoder: its id on the hub, and its casing where its files do not always define it."""

    hub_id: str
    casing: str | None = None


# The encoders that the paper and its successors use; docs/training.md has them in a table.
ALIASES = {
    "biobert": Published("dmis-lab/biobert-v1.1", "cased"),
    "scibert": Published("allenai/scibert_scivocab_uncased", "uncased"),
    "bluebert": Published("bionlp/bluebert_pubmed_mimic_uncased_L-12_H-768_A-12", "uncased"),
    "pubmedbert": Published("microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract", "uncased"),
    "biolinkbert": Published("michiyasunaga/BioLinkBERT-base", "uncased"),
    "biolinkbert-large": Published("michiyasunaga/BioLinkBERT-large", "uncased"),
    "biomedbert": Published("microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract-fulltext", "uncased"),
    "biomedbert-large": Published("microsoft/BiomedNLP-BiomedBERT-large-uncased-abstract", "uncased"),
    "sapbert": Published("cambridgeltl/SapBERT-from-PubMedBERT-fulltext", "uncased"),
    "bioclinicalbert": Published("emilyalsentzer/Bio_ClinicalBERT", "cased"),
    "biom-electra-base": Published("sultan/BioM-ELECTRA-Base-Discriminator"),
    "biom-electra-large": Published("sultan/BioM-ELECTRA-Large-Discriminator"),
    "biomed-roberta": Published("allenai/biomed_roberta_base", "cased"),
    "bioclinical-modernbert-base": Published("thomas-sounack/BioClinical-ModernBERT-base", "cased"),
    "bioclinical-modernbert-large": Published("thomas-sounack/BioClinical-ModernBERT-large", "cased"),
}
CONFIGS = ("config.json", "bert_config.json")
VOCABULARIES = (("tokenizer.json",), ("vocab.txt",), ("vocab.json", "merges.txt"))
TOKENIZER_FILES = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
# The file that identifies a relation model of biorel, and its card.
MODEL_FILE, CARD = "biorel.json", "README.md"


def could_be_hub_id(name: str) -> bool:
    """Whether a name that is not a directory has the form ``owner/name``, with or without a revision."""
    return name.partition("@")[0].count("/") == 1 and not name.startswith(("/", ".", "~")) and "\\" not in name


def fetch_model(directory: str | os.PathLike[str]) -> Path:
    """The directory of a saved relation model: the given one, or that of a model in the hub's cache."""
    path = Path(directory)
    name = os.fspath(directory)
    # A Path is never a name of the hub; only a str can be.
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
    """Upload a folder to a model repository of the hub in one commit; return the commit's URL."""
    try:
        import huggingface_hub  # noqa: PLC0415  (an extra)
    except ImportError as error:
        message = 'repo_id: pushing a model needs huggingface_hub: run `pip install "biorel[hub]"`'
        raise ConfigError(message, "repo_id") from error
    api = huggingface_hub.HfApi(token=token, library_name="biorel", library_version=__version__)
    try:
        created = api.create_repo(repo_id, repo_type="model", private=private, exist_ok=True)
        commit = api.upload_folder(
            # The hub adds the owner to a name that has none.
            repo_id=created.repo_id,
            repo_type="model",
            folder_path=folder,
            revision=revision,
            commit_message=commit_message or f"Model saved by biorel {__version__}",
        )
    except Exception as error:  # of huggingface_hub or its HTTP client
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
            raise  # of this machine
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        message = f"repo_id: `{repo_id}` cannot be pushed to: {type(error).__name__}: {said}"
        raise ConfigError(message, "repo_id") from error
    return str(commit.commit_url)


def fetch(name: str, hub_id: str, revision: str | None, *, model: bool = False) -> Path:
    """The directory of a model in the hub's cache; missing files are downloaded.

    A model that is complete in the cache is used without access to the network. To get a newer version from the hub,
    delete the cached one or name the revision. Only one format of the weights is downloaded, in the core's order of
    preference: safetensors, PyTorch, TensorFlow, Flax.

    Parameters
    ----------
    name : str
        The name that the user gave, for messages.
    hub_id : str
        ``owner/name`` on the hub.
    revision : str or None
        A branch, tag or commit.
    model : bool
        Whether it is a relation model of biorel, not an encoder.

    Returns
    -------
    Path
        The directory.

    Raises
    ------
    ConfigError
        When there is no such model, it cannot be downloaded, or ``huggingface_hub`` is not installed.
    CheckpointError
        When the repository has no encoder in a readable format.

    Examples
    --------
    >>> from biorel.models import hub
    >>> hub.fetch("nobody/nothing at all", "nobody/nothing at all", None)
    Traceback (most recent call last):
    biorel.errors.ConfigError: encoder: `nobody/nothing at all` is not a directory here, and not a valid name on ...
    """
    field = "directory" if model else "encoder"
    needed = (MODEL_FILE,) if model else ()
    try:
        import huggingface_hub  # noqa: PLC0415  (an extra)
    except ImportError as error:
        message = (
            f"{field}: `{name}` is not a directory here, and downloading {hub_id} from the hub needs huggingface_hub: "
            'run `pip install "biorel[hub]"`, or download the model and give its directory'
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
    except Exception as error:  # of huggingface_hub or its HTTP client
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
            raise  # of this machine: a full disk, a folder without write permission
        problem = _problem(error, hub_id, revision)
        raise ConfigError(f"{field}: `{name}` is not a directory here, and {problem}", field) from error
    folder = Path(paths[0]).parent
    if not _complete(folder, needed):
        raise CheckpointError(f"{folder}: {hub_id} changed on the hub during the download; try again")
    return folder


def _problem(error: Exception, hub_id: str, revision: str | None) -> str:
    from huggingface_hub import errors  # noqa: PLC0415

    shown = hub_id if revision is None else f"{hub_id}, revision {revision},"
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if isinstance(error, errors.HFValidationError):
        return f"not a valid name on the hub ({said})"
    if isinstance(error, errors.GatedRepoError):
        return f"access to {shown} requires accepting its terms: do so on its page on the hub, then run `hf auth login`"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{hub_id} has no revision `{revision}` on the hub"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"the hub has no model {hub_id}, or it is private and you are not logged in (`hf auth login`)"
    return (
        f"{shown} is not complete in the cache, and cannot be downloaded ({type(error).__name__}: {said}). Where "
        f"there is a network, run `hf download {hub_id} --local-dir {hub_id.rpartition('/')[2]}`, copy that directory "
        "here and give its path instead of the name"
    )


def needed_files(hub_id: str, files: Iterable[str], needed: Sequence[str] = ()) -> list[str]:
    """The files of a repository that an encoder needs, with one format of its weights, and those in `needed`."""
    present = sorted(file for file in files if "/" not in file)
    for file in needed:
        if file not in present:
            hint = "; an encoder is fine-tuned first, see biorel.finetune" if set(CONFIGS) & set(present) else ""
            raise CheckpointError(f"{hub_id} holds no {file}: it is not a relation model that biorel saved{hint}")
    config = [file for file in CONFIGS if file in present]
    vocabulary = [file for form in VOCABULARIES if set(form) <= set(present) for file in form]
    forms = [" and ".join(form) for form in VOCABULARIES]
    weights = next((found for found in _weight_forms(present) if found), [])
    for found, what in ((config, CONFIGS), (vocabulary, forms), (weights, ("weights of an encoder",))):
        if not found:
            listed = ", ".join(present[:12]) or "nothing"
            raise CheckpointError(f"{hub_id} holds no {' or '.join(what)} at its top; it holds {listed}")
    others = [file for file in (*TOKENIZER_FILES, *((*needed, CARD) if needed else ())) if file in present]
    return [*config, *vocabulary, *others, *weights]


def _weight_forms(present: list[str]) -> Iterable[list[str]]:
    """The files of each format of weights, in the core's order of preference; an empty list for a missing format."""

    def matching(pattern: str) -> list[str]:
        return [file for file in present if fnmatch.fnmatchcase(file, pattern)]

    for single, index, shards in (
        ("model.safetensors", "model.safetensors.index.json", "model-*.safetensors"),
        ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*.bin"),
    ):
        yield matching(single)
        yield [index, *matching(shards)] if index in present and matching(shards) else []
    for index in matching("*.index"):
        data = matching(f"{index.removesuffix('.index')}.data-*")
        yield [index, *data] if data else []
    yield matching("flax_model.msgpack")


def _cached(hub: Any, hub_id: str, revision: str | None, needed: Sequence[str]) -> Path | None:
    """The model's directory in the cache, if it is complete."""
    for file in CONFIGS:
        path = hub.try_to_load_from_cache(hub_id, file, revision=revision)
        if isinstance(path, str) and _complete(Path(path).parent, needed):
            return Path(path).parent
    return None


def _complete(folder: Path, needed: Sequence[str]) -> bool:
    # A broken link is a file whose content was deleted from the cache: it does not exist.
    present = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    if not set(CONFIGS) & set(present) or not set(needed) <= set(present):
        return False
    if not any(set(form) <= set(present) for form in VOCABULARIES):
        return False
    weights = next((found for found in _weight_forms(present) if found), [])
    for index in (file for file in weights if file.endswith(".index.json")):
        named = json.loads((folder / index).read_text(encoding="utf-8"))["weight_map"].values()
        return set(named) <= set(present)
    return bool(weights)
