"""Encoders by name: the real huggingface_hub against a small local hub."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import biorel
import pytest
from biorel.models.hub import ALIASES, needed_files
from tiny_bert import write_encoder

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Serves folders as models, as the hub does, and records the requests."""

    def __init__(self) -> None:
        self.models: dict[str, Path] = {}
        self.requests: list[str] = []
        self.cut: str | None = None  # a file whose transfer stops in the middle
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                hub.answer(self, body=False)

            def do_GET(self) -> None:
                hub.answer(self, body=True)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, request: BaseHTTPRequestHandler, *, body: bool) -> None:
        path = request.path.split("?")[0].strip("/")
        self.requests.append(f"{request.command} {path}")
        for hub_id, folder in self.models.items():
            if path in (f"api/models/{hub_id}", f"api/models/{hub_id}/revision/main"):
                files = [{"rfilename": str(p.relative_to(folder))} for p in sorted(folder.rglob("*")) if p.is_file()]
                text = json.dumps({"id": hub_id, "modelId": hub_id, "sha": COMMIT, "siblings": files})
                return self.send(request, text.encode(), body=body)
            if path.startswith(f"{hub_id}/resolve/main/"):
                file = folder / path.removeprefix(f"{hub_id}/resolve/main/")
                if file.is_file():
                    return self.send(request, file.read_bytes(), body=body, cut=file.name == self.cut)
                return self.refuse(request, "EntryNotFound")
            if path.startswith((f"{hub_id}/resolve/", f"api/models/{hub_id}/revision/")):
                return self.refuse(request, "RevisionNotFound")
        return self.refuse(request, "RepoNotFound")

    def send(self, request: BaseHTTPRequestHandler, data: bytes, *, body: bool, cut: bool = False) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(data)))
        request.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        request.send_header("X-Repo-Commit", COMMIT)
        request.end_headers()
        if body:
            request.wfile.write(data[: len(data) // 2] if cut else data)
            request.close_connection = cut

    def refuse(self, request: BaseHTTPRequestHandler, code: str) -> None:
        request.send_response(404)
        request.send_header("X-Error-Code", code)
        request.send_header("Content-Length", "0")
        request.end_headers()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    hub = Hub()
    folder = write_encoder(tmp_path / "published")
    (folder / "flax_model.msgpack").write_bytes(b"another format of the weights")
    (folder / "pytorch_model.bin").write_bytes(b"a third one")
    (folder / "README.md").write_text("# A model")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(b"a fourth one")
    hub.models = {"tiny/bert": folder, ALIASES["biobert"].hub_id: folder}
    thread = threading.Thread(target=hub.server.serve_forever, daemon=True)
    thread.start()
    yield hub
    hub.server.shutdown()
    hub.server.server_close()
    thread.join()


def load(name: str, tmp_path: Path, url: str, **environment: str) -> str:
    """The output of `load_encoder(name)` in a new process with this cache: the encoder, or its error."""
    code = f"""
import biorel
try:
    print(repr(biorel.load_encoder({name!r})))
except biorel.BiorelError as error:
    print(type(error).__name__, error)
"""
    settings = {"HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    environment = {**os.environ, **settings, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1", **environment}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_model_is_downloaded_once(hub: Hub, tmp_path: Path) -> None:
    output = load("tiny/bert", tmp_path, hub.url)
    assert output.startswith("Encoder('tiny/bert', 2 layers x 32")
    files = {line.rsplit("/", 1)[1] for line in hub.requests if "/resolve/" in line}
    assert files == {"config.json", "vocab.txt", "tokenizer_config.json", "model.safetensors"}
    hub.requests.clear()
    assert load("tiny/bert", tmp_path, hub.url) == output
    assert hub.requests == []
    # Offline, the cached model loads, and the error for another one says why.
    assert load("tiny/bert", tmp_path, hub.url, HF_HUB_OFFLINE="1") == output
    message = load("other/bert", tmp_path, hub.url, HF_HUB_OFFLINE="1")
    assert message.startswith(
        "ConfigError encoder: `other/bert` is not a directory here, and other/bert is not complete"
    )
    assert "OfflineModeIsEnabled" in message
    assert "copy that directory here" in message
    assert hub.requests == []


def test_an_incomplete_cache_is_completed(hub: Hub, tmp_path: Path) -> None:
    hub.cut = "model.safetensors"
    message = load("tiny/bert", tmp_path, hub.url)
    assert "tiny/bert is not complete in the cache, and cannot be downloaded" in message
    hub.cut = None
    assert load("tiny/bert", tmp_path, hub.url).startswith("Encoder('tiny/bert'")
    # A file was deleted from the cache, but not the link to it.
    [link] = (tmp_path / "home").rglob("snapshots/*/vocab.txt")
    link.resolve().unlink()
    assert load("tiny/bert", tmp_path, hub.url).startswith("Encoder('tiny/bert'")
    hub.server.shutdown()
    link.unlink()
    hub.server.server_close()
    assert "cannot be downloaded" in load("tiny/bert", tmp_path, hub.url)


def test_errors_of_the_hub_are_explained(hub: Hub, tmp_path: Path) -> None:
    message = load("tiny/bort", tmp_path, hub.url)
    assert "the hub has no model tiny/bort, or it is private" in message
    assert "tiny/bert has no revision `v2` on the hub" in load("tiny/bert@v2", tmp_path, hub.url)
    assert load("tiny/bert@main", tmp_path, hub.url).startswith("Encoder('tiny/bert@main'")
    assert "not a valid name on the hub" in load("tiny/be rt", tmp_path, hub.url)
    (hub.models["tiny/bert"] / "config.json").rename(tmp_path / "config.json")
    message = load("tiny/bert", tmp_path / "empty", hub.url)
    assert message.startswith("CheckpointError tiny/bert holds no config.json or bert_config.json")


def test_an_alias_defines_the_casing(hub: Hub, tmp_path: Path) -> None:
    message = load("biobert", tmp_path, hub.url)
    assert message.startswith("CheckpointError")
    assert "casing `cased` was asked for, but the pieces of the vocabulary are uncased" in message
    assert any(line.endswith("dmis-lab/biobert-v1.1/resolve/main/vocab.txt") for line in hub.requests)


def test_without_huggingface_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for name in ("scibert", "allenai/scibert_scivocab_uncased"):
        with pytest.raises(biorel.ConfigError, match=r'pip install "biorel\[hub\]"') as raised:
            biorel.load_encoder(name)
        assert raised.value.field == "encoder"


def test_one_format_of_the_weights_is_chosen() -> None:
    always = ["config.json", "vocab.txt"]
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"]
    torch = ["pytorch_model.bin"]
    tensorflow = ["model.ckpt-1000000.data-00000-of-00001", "model.ckpt-1000000.index", "model.ckpt-1000000.meta"]
    flax = ["flax_model.msgpack"]
    everything = [*always, *shards, *torch, *tensorflow, *flax, "tf_model.h5", "sub/model.safetensors"]
    assert set(needed_files("x/y", everything)) == {*always, *shards}
    assert set(needed_files("x/y", [*always, *torch, *flax])) == {*always, *torch}
    assert set(needed_files("x/y", [*always, *tensorflow])) == {*always, *tensorflow[:2]}
    assert set(needed_files("x/y", [*always, *flax])) == {*always, *flax}
    pairs = ["config.json", "vocab.json", "merges.txt"]
    assert set(needed_files("x/y", [*pairs, *torch])) == {*pairs, *torch}
    with pytest.raises(biorel.CheckpointError, match=r"no tokenizer.json or vocab.txt or vocab.json and merges.txt"):
        needed_files("x/y", ["config.json", "vocab.json", *torch])
    for files, words in (
        (["config.json", *flax], "tokenizer.json or vocab.txt"),
        (["vocab.txt", *flax], "config.json or bert_config.json"),
        (always, "weights of an encoder"),
        ([], "it holds nothing"),
    ):
        with pytest.raises(biorel.CheckpointError, match=words):
            needed_files("x/y", files)
