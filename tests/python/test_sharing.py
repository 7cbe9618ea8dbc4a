"""The model card, and models to and from the hub: no network, but huggingface_hub itself reads the card."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import biorel
import huggingface_hub
import pandas as pd
import pytest
import yaml
from biorel.models.model_card import write_card
from test_hub import Hub, hub
from tiny_bert import write_encoder

__all__ = ["hub"]  # a fixture

ABOUT: dict[str, Any] = {
    "version": "0.1.0",
    "task": {"name": "mine", "labels": ["no", "yes"], "negative": 0, "candidates": {"rules": [[["a"], ["b"]]]}},
    "marking": "typed",
    "training": {"head": "cls", "max_length": 96, "precision": "f32", "warmup_ratio": 0.1},
    "encoder": "biobert",
    "data": "0" * 64,
    "steps": 4,
}


def front_matter(card: str) -> dict[str, Any]:
    assert card.startswith("---\n")
    return dict(yaml.safe_load(card.split("---\n")[1]))


def test_the_card_of_a_run_has_its_scores_and_settings(run: biorel.Run, tmp_path: Path) -> None:
    run.save(tmp_path / "ddi-attention", metadata={"license": "cc-by-nc-4.0", "datasets": ["me/corpus"]})
    text = (tmp_path / "ddi-attention" / "README.md").read_text(encoding="utf-8")
    card = huggingface_hub.ModelCard(text)
    assert card.data.license == "cc-by-nc-4.0"
    assert card.data.datasets == ["me/corpus"]
    assert card.data.library_name == "biorel"
    assert card.data.language == "en"
    # By a tag transformers' pipeline would answer from a random head.
    assert card.data.pipeline_tag is None
    headline = run.scores.set_index("class").loc["micro"]
    [f1] = [result for result in card.data.eval_results if result.metric_type == "f1"]
    assert f1.metric_value == pytest.approx(headline["f1"], abs=1e-6)
    assert f1.dataset_type == "ddi"
    for expected in (
        run.scores.protocol,
        run.model.card["data"],
        "| learning_rate | 0.001 |",
        "Optimizer steps: 4",
        "`mechanism`",
        f"large matrix products in {run.settings['precision']}",
        "linear rise over the first 0.1 of the steps, then linear fall from the peak to 0",
        'model = biorel.load("ddi-attention")',
    ):
        assert expected in text, expected
    assert biorel.load(tmp_path / "ddi-attention").labels == run.model.labels


def test_the_card_of_a_model_of_the_sample_says_so(run: biorel.Run, encoder: biorel.Encoder, tmp_path: Path) -> None:
    def is_said(model: biorel.RelationModel) -> bool:
        model.save(tmp_path / "model", metadata={"language": "en"})  # not a copy of an earlier card
        text = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
        said = "**Trained on biorel's synthetic sample**" in text
        assert ("synthetic-data" in front_matter(text)["tags"]) == said
        return said

    assert is_said(run.model)
    assert is_said(biorel.load(tmp_path / "model"))
    assert is_said(pickle.loads(pickle.dumps(run.model)))
    options: dict[str, Any] = {"max_steps": 1, "max_length": 96, "progress": False}
    assert is_said(biorel.finetune(biorel.load_sample("aimed").fold(1), encoder, **options).model)
    # A table of one's own, here of the sample's sentences with tags instead of names.
    table = biorel.load_sample("ddi").instances("train").assign(split="train")
    own = biorel.load_corpus("table", table[["document", "text", "label", "split"]])
    assert not is_said(biorel.finetune(own, encoder, **options).model)
    # One sentence that is not the sample's: real data in its format.
    folder = tmp_path / "ddi"
    shutil.copytree(biorel.sample_path("ddi"), folder)
    file = next(path for path in sorted((folder / "Train").rglob("*.xml")))
    file.write_text(file.read_text(encoding="utf-8").replace('.">', '!">', 1), encoding="utf-8")
    other = biorel.load_corpus("ddi", folder)
    assert set(other.sentences("train")["text"]) != set(biorel.load_sample("ddi").sentences("train")["text"])
    assert not is_said(biorel.finetune(other, encoder, **options).model)


def test_the_example_runs(run: biorel.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run.save(tmp_path / "saved")
    monkeypatch.chdir(tmp_path)
    [code] = re.findall(r"```python\n(.*?)```", (tmp_path / "saved" / "README.md").read_text("utf-8"), re.DOTALL)
    *lines, call = code.strip().splitlines()
    names: dict[str, Any] = {}
    exec("\n".join(lines), names)
    assert len(eval(call, names)) == 1


@pytest.mark.parametrize("name", ["ddi", "aimed", "chemprot"])
def test_the_card_has_no_text_of_the_corpus(name: str, encoder: biorel.Encoder, tmp_path: Path) -> None:
    corpus = biorel.load_sample(name)
    part = corpus if "train" in corpus.splits else corpus.fold(0)
    run = biorel.finetune(part, encoder, max_length=96, max_steps=1, progress=False)
    run.save(tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    words = re.findall(r"\w+", card.lower())
    in_card = {tuple(words[at : at + 4]) for at in range(len(words))}
    for split in part.splits:
        for text in part.instances(split)["text"]:
            found = re.findall(r"\w+", text.lower())
            shared = {tuple(found[at : at + 4]) for at in range(len(found) - 3)} & in_card
            assert not shared, (text, shared)


def test_scores_of_several_runs_are_reported(ddi: biorel.Corpus, encoder: biorel.Encoder, tmp_path: Path) -> None:
    comparison = biorel.compare(
        ddi,
        directory=tmp_path / "runs",
        heads=["cls"],
        encoders=[encoder],
        seeds=[1, 2],
        save_models=True,
        max_steps=1,
        max_length=96,
        progress=False,
    )
    model = comparison.model("cls", seed=1)
    assert "micro-F1" in (tmp_path / "runs" / "models").glob("*/README.md").__next__().read_text()
    model.save(tmp_path / "model", scores=[comparison.results, model.evaluate(ddi)])
    text = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    [first, second] = front_matter(text)["model-index"][0]["results"]
    by_type = {metric["type"]: metric["value"] for metric in first["metrics"]}
    assert by_type["f1"] == pytest.approx(comparison.results["f1"][0], abs=1e-6)
    assert comparison.results.protocol in text
    assert "| sd " in text
    assert model.evaluate(ddi).protocol in second["metrics"][0]["name"]
    validation = biorel.cross_validate(
        biorel.load_sample("aimed"), encoder, folds=2, max_steps=1, max_length=96, progress=False
    )
    model.save(tmp_path / "model", scores=validation.scores)
    text = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "| mean |" in text
    assert "2 folds by document" in text


def test_scores_need_their_protocol(run: biorel.Run, tmp_path: Path) -> None:
    for scores in (pd.DataFrame({"class": ["micro"], "f1": [0.9]}), [{"f1": 0.9}]):
        with pytest.raises(biorel.ConfigError, match="protocol"):
            run.model.save(tmp_path / "model", scores=scores)
    with pytest.raises(biorel.ConfigError, match="metadata: `tags`"):
        run.model.save(tmp_path / "model", metadata={"tags": {1, 2}})
    assert not (tmp_path / "model").exists()


def test_a_loaded_model_keeps_its_card(run: biorel.Run, tmp_path: Path) -> None:
    run.save(tmp_path / "first")
    readme = tmp_path / "first" / "README.md"
    readme.write_text(readme.read_text(encoding="utf-8") + "\nWritten by hand: β.\n", encoding="utf-8")
    model = biorel.load(tmp_path / "first")
    model.save(tmp_path / "second")
    text = (tmp_path / "second" / "README.md").read_text(encoding="utf-8")
    assert text.endswith("Written by hand: β.\n")
    assert 'model = biorel.load("second")' in text
    model.save(tmp_path / "third", metadata={"license": "mit"})
    assert "Written by hand" not in (tmp_path / "third" / "README.md").read_text(encoding="utf-8")
    readme.write_bytes(b"\xff not text")
    assert biorel.load(tmp_path / "first").labels == run.model.labels
    readme.write_bytes(b" " * (5 << 20))
    with pytest.warns(UserWarning, match="too long for a model card"):
        biorel.load(tmp_path / "first")


def test_base_model_is_an_id_of_the_hub_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "mine").mkdir(parents=True)
    for encoder, wanted in (
        ("biobert", "dmis-lab/biobert-v1.1"),
        ("minilm", "sentence-transformers/all-MiniLM-L6-v2"),
        ("owner/name", "owner/name"),
        ("owner/name@v2", "owner/name"),
        ("models/mine", None),
        ("/home/anna/secret/bert", None),
        ("../secret/bert", None),
        ("C:\\Users\\anna\\bert", None),
    ):
        card = write_card({**ABOUT, "encoder": encoder}, name="m", headline="micro")
        assert front_matter(card).get("base_model") == wanted
        assert "secret" not in card


@pytest.mark.parametrize(
    "name",
    [
        "yes",
        "a: b",
        "- x",
        "`|<b>|",
        "# no",
        '"',
        "\\",
        "\n---\nx",
        "\x07\x7f\x85\u2028\ufeff",
        "γ\U0001f9ec",
        "&a *b",
        "1e3",
        "",
    ],
)
def test_yaml_and_markdown_escape_names(name: str) -> None:
    task = {**ABOUT["task"], "name": name, "labels": [name, "other"]}
    scores = biorel.Scores({"class": [name, "micro"], "f1": [0.5, 0.25]})
    scores.attrs["protocol"] = f"micro-F1 {name}"
    card = write_card({**ABOUT, "task": task}, name="m", headline="micro", scores=scores, metadata={"x": [name, {}]})
    end = card.index("\n---\n\n# m\n")
    found = yaml.safe_load(card[4:end])
    assert found["tags"][-1] == name
    assert found["x"] == [name, {}]
    assert found["model-index"][0]["results"][0]["dataset"] == {"name": name, "type": name}
    assert "<b>" not in card[end:]
    widths = {
        line.count("|") - line.count("\\|") for line in card.splitlines() if line.startswith("| ") and "0.5" in line
    }
    assert widths == {3}


class FakeApi:
    """Records requests to the hub, with the uploaded files."""

    calls: ClassVar[list[tuple[str, dict[str, Any]]]] = []
    files: ClassVar[dict[str, bytes]] = {}
    error: Exception | None = None

    def __init__(self, **given: Any) -> None:
        FakeApi.calls = [("HfApi", given)]

    def create_repo(self, repo_id: str, **given: Any) -> SimpleNamespace:
        if FakeApi.error is not None:
            raise FakeApi.error
        FakeApi.calls.append(("create_repo", {"repo_id": repo_id, **given}))
        return SimpleNamespace(repo_id=repo_id if "/" in repo_id else f"me/{repo_id}")

    def upload_folder(self, *, folder_path: Path, **given: Any) -> SimpleNamespace:
        FakeApi.calls.append(("upload_folder", given))
        FakeApi.files = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
        return SimpleNamespace(commit_url="https://hub/commit/1")


def test_a_model_is_pushed(run: biorel.Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeApi)
    url = run.push_to_hub("ddi-attention", private=True, token="t", commit_message="first", metadata={"license": "mit"})
    assert url == "https://hub/commit/1"
    assert FakeApi.calls == [
        ("HfApi", {"token": "t", "library_name": "biorel", "library_version": biorel.__version__}),
        ("create_repo", {"repo_id": "ddi-attention", "repo_type": "model", "private": True, "exist_ok": True}),
        (
            "upload_folder",
            {"repo_id": "me/ddi-attention", "repo_type": "model", "revision": None, "commit_message": "first"},
        ),
    ]
    run.save(tmp_path / "model")
    assert set(FakeApi.files) == {path.name for path in (tmp_path / "model").iterdir()}
    assert FakeApi.files["model.safetensors"] == (tmp_path / "model" / "model.safetensors").read_bytes()
    card = FakeApi.files["README.md"].decode()
    assert front_matter(card)["license"] == "mit"
    assert run.scores.protocol in card
    # The card of a saved model names the repository to which it is pushed later.
    biorel.load(tmp_path / "model").push_to_hub("me/other")
    assert 'model = biorel.load("me/other")' in FakeApi.files["README.md"].decode()
    FakeApi.error = PermissionError("403 forbidden")
    with pytest.raises(biorel.ConfigError, match="repo_id: `me/x` cannot be pushed to: PermissionError: 403 forbidden"):
        run.push_to_hub("me/x")
    FakeApi.error = OSError(28, "No space left on device")
    with pytest.raises(OSError, match="No space left"):
        run.push_to_hub("me/x")
    monkeypatch.setattr(FakeApi, "error", None)


def test_without_huggingface_hub(run: biorel.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(biorel.ConfigError, match=r'pip install "biorel\[hub\]"') as raised:
        run.model.push_to_hub("me/model")
    assert raised.value.field == "repo_id"
    with pytest.raises(biorel.ConfigError, match=r'directory: `me/model` is not .*`pip install "biorel\[hub\]"'):
        biorel.load("me/model")


def test_a_model_is_loaded_from_the_hub(hub: Hub, run: biorel.Run, tmp_path: Path) -> None:
    import os
    import subprocess

    run.save(tmp_path / "saved")
    (tmp_path / "saved" / "training.log").write_text("not needed")
    hub.models["me/ddi"] = tmp_path / "saved"
    hub.models["me/bert"] = write_encoder(tmp_path / "bert")
    code = """
import json, sys, biorel
found = []
for name in sys.argv[1:]:
    try:
        found.append(repr(biorel.load(name)))
    except biorel.BiorelError as error:
        found.append(f"{type(error).__name__} {error}")
print(json.dumps(found))
"""
    settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    settings |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_XET": "1"}
    names = ["me/ddi", "me/bert", "me/none"]
    done = subprocess.run(
        [sys.executable, "-c", code, *names],
        capture_output=True,
        text=True,
        env={**os.environ, **settings},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    model, bert, none = json.loads(done.stdout)
    assert model == repr(run.model)
    assert bert.startswith("CheckpointError me/bert holds no biorel.json: it is not a relation model")
    assert none.startswith("ConfigError directory: `me/none` is not a directory here, and the hub has no model me/none")
    downloaded = {line.rsplit("/", 1)[1] for line in hub.requests if line.startswith("GET me/ddi/resolve")}
    assert {"biorel.json", "README.md", "model.safetensors", "config.json"} <= downloaded
    assert "training.log" not in downloaded


def test_paths_are_not_requested_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for place in (tmp_path / "none", Path("models/none"), "./models/none", "none", "a/b/c", str(tmp_path / "none")):
        with pytest.raises(FileNotFoundError):
            biorel.load(place)
