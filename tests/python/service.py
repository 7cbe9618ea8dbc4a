"""A running service, and a plain HTTP client."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import biorel
from biorel.serving.batching import Job
from biorel.serving.limits import Limits
from biorel.serving.server import listen, make_server, url_of


@dataclass(frozen=True)
class Answer:
    """What a service answers."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def call(url: str, path: str, body: Any = None, *, method: str | None = None, **headers: str) -> Answer:
    """A request: POST if there is a body, which is sent as JSON unless it is bytes."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method or ("GET" if content is None else "POST"), path, content, names)
        answer = connection.getresponse()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def connect(url: str) -> socket.socket:
    """A connection on which a test sends what it likes."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    return socket.create_connection((parts.hostname, parts.port or 80), timeout=60)


def head(path: str, length: int) -> bytes:
    """The head of a POST request."""
    return f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n".encode()


def read_answer(connection: socket.socket) -> Answer:
    """The answer on a connection."""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())


@dataclass
class Running:
    """A service in a thread of this process."""

    url: str
    server: Any

    @property
    def service(self) -> Any:
        """The application's state."""
        return self.server.config.app.state.service

    def call(self, path: str, body: Any = None, **options: Any) -> Answer:
        """A request."""
        return call(self.url, path, body, **options)

    def metric(self, name: str) -> float:
        """The value of a metric, with its labels as they are written; 0 if there is none yet."""
        lines = self.call("/metrics").body.decode().splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == name), 0.0)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """The model is busy, so that requests wait, until the block ends."""
        started, release = threading.Event(), threading.Event()

        def busy() -> None:
            started.set()
            release.wait(60)

        self.service.batcher.submit(Job(0, busy))
        assert started.wait(60)
        try:
            yield
        finally:
            release.set()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Ask until the condition holds."""
        for _ in range(10_000):
            if condition():
                return
            self.call("/health")
        raise AssertionError("the condition does not come true")


@contextlib.contextmanager
def running(model: biorel.RelationModel, limits: Limits | None = None) -> Iterator[Running]:
    """A service on a free port."""
    listener = listen("127.0.0.1", 0)
    server = make_server(model, limits, grace=30)
    failed: list[BaseException] = []

    def serve() -> None:
        try:
            server.run(sockets=[listener])
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield Running(url_of(listener), server)
    finally:
        server.should_exit = True
        thread.join()
    assert failed == []
