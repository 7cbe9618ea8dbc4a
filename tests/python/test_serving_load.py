"""The service under load, with broken clients, and when it is killed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import biorel
import pytest
from biorel.cli.main import main
from biorel.serving.batching import Job
from biorel.serving.limits import Limits
from biorel.serving.server import listen
from child_process import start_python
from service import Running, call, connect, head, read_answer, running

TEXT = "Velotrazine and nalexpidol increase the clearance of brelozine."
NAMES = ("Velotrazine", "nalexpidol", "brelozine")
ENTITIES = [{"start": TEXT.index(one), "end": TEXT.index(one) + len(one), "type": "drug"} for one in NAMES]
SENTENCE: dict[str, Any] = {"text": TEXT, "entities": ENTITIES}
LIMITS = Limits(max_body=20_000, max_sentences=10, max_pairs=60, queue_pairs=60, body_timeout=60)


@pytest.fixture(scope="module")
def model(run: biorel.Run) -> biorel.RelationModel:
    """A tiny model."""
    return run.model


@pytest.fixture(scope="module")
def service(model: biorel.RelationModel) -> Iterator[Running]:
    """A service with low limits."""
    with running(model, LIMITS) as one:
        yield one


@contextlib.contextmanager
def clients(number: int) -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(number) as pool:
        yield pool


def test_requests_that_wait_share_a_batch(service: Running, model: biorel.RelationModel) -> None:
    """Each of them gets its own pairs, with the probabilities that it would get alone."""
    words = ["half-life", "potencies", "clearance", "CLEARANCE", "Half-life", "Potencies"]  # of one length
    texts = [TEXT.replace("clearance", word) for word in words]
    bodies = [[{"text": text, "entities": ENTITIES[: 2 + number % 2]}] for number, text in enumerate(texts)]
    expected = [model.predict(body) for body in bodies]
    batches = service.metric("biorel_batch_pairs_count")
    with clients(len(bodies)) as pool:
        with service.paused():
            answers = [pool.submit(service.call, "/predict", body) for body in bodies]
            service.wait_for(lambda: service.metric("biorel_queue_requests") == len(bodies))
            assert service.metric("biorel_queue_pairs") == sum(map(len, expected))
        found = [answer.result() for answer in answers]
    for answer, table in zip(found, expected, strict=True):
        assert [one["probability"] for one in answer.json["pairs"]] == pytest.approx(
            table["probability"].tolist(), abs=1e-6
        )
        assert [one["start2"] for one in answer.json["pairs"]] == table["start2"].tolist()
    assert service.metric("biorel_batch_pairs_count") == batches + 2  # that of the busy model, and theirs


def test_an_error_in_the_model_reaches_only_its_own_request(ddi: biorel.Corpus, encoder: biorel.Encoder) -> None:
    """Whether a pair is too long shows only when it is in word pieces, in the batch."""
    settings: dict[str, Any] = {"max_length": 48, "too_long": "error", "max_steps": 1, "progress": False}
    model = biorel.finetune(ddi, encoder, **settings).model
    far = "Velotrazine " + "and so on " * 40 + "nalexpidol."
    entities = [
        {"start": 0, "end": 11, "type": "drug"},
        {"start": far.index("nalex"), "end": len(far) - 1, "type": "drug"},
    ]
    bad = {"id": "far", "text": far, "entities": entities}
    with pytest.raises(biorel.CorpusError) as error:
        model.predict([bad])
    with running(model) as service, clients(3) as pool:
        with service.paused():
            answers = [pool.submit(service.call, "/predict", [one]) for one in (SENTENCE, bad, SENTENCE)]
            service.wait_for(lambda: service.metric("biorel_queue_requests") == 3)
        found = [answer.result() for answer in answers]
    assert [answer.status for answer in found] == [200, 422, 200]
    assert found[1].json["detail"] == str(error.value)
    assert "far" in found[1].json["detail"]
    assert len(found[0].json["pairs"]) == len(found[2].json["pairs"]) == 3


def test_the_thread_of_the_model_outlives_what_a_job_raises(service: Running) -> None:
    result = service.service.batcher.submit(Job(1, lambda: sys.exit("not an Exception")))
    with pytest.raises(SystemExit, match="not an Exception"):
        result.result(60)
    assert service.call("/predict", [SENTENCE]).status == 200


def test_a_full_queue_refuses(service: Running) -> None:
    body = [SENTENCE] * 10  # 30 pairs
    with clients(2) as pool:
        with service.paused():
            answers = [pool.submit(service.call, "/predict", body) for _ in range(2)]
            service.wait_for(lambda: service.metric("biorel_queue_pairs") == 60)
            refused = service.call("/predict", [SENTENCE])
            assert refused.status == 429
            assert re.fullmatch(r"60 pairs are waiting; try again in \d+ s", refused.json["detail"])
            assert 1 <= int(refused.headers["retry-after"]) <= 60
            assert service.call("/health").status == 200
        assert [answer.result().status for answer in answers] == [200, 200]
    assert service.call("/predict", [SENTENCE]).status == 200
    assert service.metric('biorel_requests_total{endpoint="/predict",code="429"}') == 1


def test_large_requests_are_refused(service: Running) -> None:
    large = b" " * (LIMITS.max_body + 1)
    message = "body: is larger than 20,000 bytes; send several requests, or raise the limit"
    for path in ("/predict", "/documents", "/explain"):
        answer = service.call(path, large)
        assert (answer.status, answer.json["detail"]) == (413, message)
    with contextlib.closing(connect(service.url)) as connection:  # without a length
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(3):
            connection.sendall(b"2000\r\n" + b" " * 0x2000 + b"\r\n")
        connection.sendall(b"0\r\n\r\n")
        assert read_answer(connection).status == 413
    with contextlib.closing(connect(service.url)) as connection:  # it is refused before it is sent
        connection.sendall(head("/predict", 1 << 40).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        answer = read_answer(connection)
        assert (answer.status, answer.headers["connection"]) == (413, "close")
    answer = service.call("/predict", [SENTENCE] * 11)
    assert answer.json["detail"] == "sentences: 11 in one request, where 10 are allowed; send several"
    many = {"text": TEXT, "entities": [ENTITIES[0]] * 12}  # 66 pairs
    answer = service.call("/predict", [many])
    assert answer.json["detail"] == "body: 66 pairs in one request, where 60 are allowed; send several"
    assert service.call("/explain", {**many, "pair": [0, 1]}).status == 413
    mentions = "".join(f"7\t0\t11\tVelotrazine\tDrug\tD{number}\n" for number in range(12))
    assert service.call("/documents", f"7|t|{TEXT}\n7|a|\n{mentions}".encode()).status == 413
    assert service.metric("biorel_queue_requests") == 0


def test_a_slow_client_does_not_hold_up_others(service: Running) -> None:
    body = b'{"sentences": []}'
    with contextlib.closing(connect(service.url)) as slow, contextlib.closing(connect(service.url)) as silent:
        slow.sendall(head("/predict", len(body)))
        for number in range(len(body) - 1):
            slow.sendall(body[number : number + 1])
            assert service.call("/predict", [SENTENCE]).status == 200
        slow.sendall(body[-1:])
        assert read_answer(slow).json["pairs"] == []
        silent.sendall(b"POST /pred")
        assert service.call("/health").status == 200


def test_a_body_that_does_not_come_is_given_up(model: biorel.RelationModel) -> None:
    with running(model, Limits(body_timeout=0.1)) as service, contextlib.closing(connect(service.url)) as connection:
        connection.sendall(head("/predict", 100) + b"[")
        answer = read_answer(connection)
        assert (answer.status, answer.headers["connection"]) == (408, "close")
        assert answer.json["detail"] == "body: did not come within 0.1 s; send less, or raise the limit"
        assert connection.recv(1) == b""


def test_a_client_that_hangs_up_is_forgotten(service: Running) -> None:
    name = 'biorel_requests_total{endpoint="/predict",code="499"}'
    before = service.metric(name)
    connection = connect(service.url)  # in the middle of its body
    connection.sendall(head("/predict", 100) + b"[")
    connection.close()
    service.wait_for(lambda: service.metric(name) == before + 1)
    with service.paused():  # while its request waits
        done = service.metric("biorel_model_requests_total")
        connection = connect(service.url)
        body = b'[{"text": "A b.", "entities": [{"start": 0, "end": 1}, {"start": 2, "end": 3}]}]'
        connection.sendall(head("/predict", len(body)) + body)
        service.wait_for(lambda: service.metric("biorel_queue_requests") == 1)
        connection.close()
        service.wait_for(lambda: service.metric("biorel_queue_requests") == 0)
    service.wait_for(lambda: service.metric("biorel_model_requests_total") == done + 1)  # only the one that paused it
    assert service.metric(name) == before + 2
    assert service.call("/predict", [SENTENCE]).status == 200


# A service whose model is busy until a line comes on standard input.
HELD = """
import sys, threading
import biorel
from biorel.serving.batching import Job
from biorel.serving.server import listen, make_server, url_of
listener = listen("127.0.0.1", 0)
server = make_server(biorel.load(sys.argv[1]))
server.config.app.state.service.batcher.submit(Job(0, sys.stdin.readline))
print(url_of(listener), flush=True)
server.run(sockets=[listener])
"""


@pytest.fixture(scope="module")
def saved(model: biorel.RelationModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's directory."""
    directory = tmp_path_factory.mktemp("service") / "model"
    model.save(directory)
    return directory


@pytest.mark.skipif(os.name != "posix", reason="Windows has no SIGTERM that a process can handle")
def test_sigterm_answers_what_waits(saved: Path) -> None:
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with start_python(HELD, saved, **pipes) as process, clients(5) as pool:
        assert process.stdin is not None
        assert process.stdout is not None
        url = process.stdout.readline().decode().strip()
        answers = [pool.submit(call, url, "/predict", [SENTENCE] * 3) for _ in range(5)]
        while b"biorel_queue_requests 5" not in call(url, "/metrics").body:
            pass
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(OSError):
            while True:  # until it no longer accepts connections
                connect(url).close()
        process.stdin.write(b"\n")
        process.stdin.flush()
        found = [answer.result() for answer in answers]
        assert [answer.status for answer in found] == [200] * 5
        assert [len(answer.json["pairs"]) for answer in found] == [9] * 5
        assert process.wait() in (0, -signal.SIGTERM)


def start_command(saved: Path, port: int = 0) -> tuple[subprocess.Popen[bytes], str]:
    command = [sys.executable, "-m", "biorel", "serve", str(saved), "--port", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    assert process.stderr is not None
    line = process.stderr.readline().decode()
    match = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert match is not None, line + process.stderr.read().decode()
    return process, match[0]


@pytest.mark.skipif(os.name != "posix", reason="Windows kills in another way")
def test_the_command_after_a_kill(saved: Path, model: biorel.RelationModel) -> None:
    process, url = start_command(saved)
    with process, contextlib.closing(connect(url)) as waiting:
        first = call(url, "/predict", [SENTENCE]).json["pairs"]
        waiting.sendall(head("/predict", 100))
        process.kill()
        process.wait()
    again, same = start_command(saved, int(url.rpartition(":")[2]))
    with again:
        assert same == url
        assert call(url, "/predict", [SENTENCE]).json["pairs"] == first
        again.send_signal(signal.SIGINT)
        assert again.wait() == 130
    assert len(first) == len(model.predict([SENTENCE])) == 3


def test_a_port_that_is_taken(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert main(["serve", str(saved), "--port", str(port)]) == 1
    assert f"port: {port} on 127.0.0.1 is taken by another process; choose another one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "70000"], "port: must be from 0 to 65535, not 70000"),
        (["--host", "nowhere.invalid"], "host: `nowhere.invalid` is not an address or a known name"),
        (["--host", "203.0.113.7", "--port", "0"], "host: `203.0.113.7` is not an address of this machine"),
        (["--max-pairs", "9000"], "queue_pairs: 8000 is less than the 9000 pairs of one request"),
    ],
)
def test_options_are_checked(saved: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str) -> None:
    assert main(["serve", str(saved), *options]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn"])
def test_without_the_extra(
    saved: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    assert main(["serve", str(saved)]) == 1
    assert capsys.readouterr().err == f'error: serve: {missing} is not installed; run: pip install "biorel[serve]"\n'


def test_the_thread_of_the_model_computes_without_the_lock(model: biorel.RelationModel) -> None:
    """Other threads run while the model computes: the health of a busy service is known."""
    with running(model) as service, clients(1) as pool:
        answer = pool.submit(service.call, "/predict", [SENTENCE] * 100)
        count = 0
        while not answer.done():
            assert service.call("/health").status == 200
            count += 1
        assert answer.result().status == 200
        assert count > 1
    assert threading.active_count() < 50
