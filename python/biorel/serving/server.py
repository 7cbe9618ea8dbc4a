"""The server process: its socket, and uvicorn around the application."""

from __future__ import annotations

import errno
import os
import signal
import socket
from types import FrameType
from typing import Any

from biorel.errors import ConfigError
from biorel.models.relation_model import RelationModel
from biorel.serving.limits import Limits

# Open connections and requests in work; more are answered with 503.
_CONNECTIONS = 500


def check_installed() -> Any:
    """The module uvicorn; if it or FastAPI is missing, the error says what to install."""
    try:
        import fastapi  # noqa: F401, PLC0415  (an extra)
        import uvicorn  # noqa: PLC0415
    except ImportError as error:
        message = f'serve: {error.name} is not installed; run: pip install "biorel[serve]"'
        raise ConfigError(message, "serve") from None
    return uvicorn


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens, opened before the model is loaded, so that a port that is taken shows at once.

    Parameters
    ----------
    host : str
        A name or address of this machine.
    port : int
        The port; 0 for a free one.

    Raises
    ------
    ConfigError
        When the port is taken or not allowed, or the host is not an address of this machine.

    Examples
    --------
    >>> from biorel.serving.server import listen
    >>> with listen("127.0.0.1", 0) as one:
    ...     listen("127.0.0.1", one.getsockname()[1])
    Traceback (most recent call last):
    biorel.errors.ConfigError: port: ... on 127.0.0.1 is taken by another process; choose another ...
    """
    if not 0 <= port <= 65535:
        raise ConfigError(f"port: must be from 0 to 65535, not {port}", "port")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError):
        raise ConfigError(f"host: `{host}` is not an address or a known name", "host") from None
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            # Else a restart after a kill would have to wait for the old connections to expire.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            what = f"port: {port} on {host} is taken by another process; choose another one, or 0 for a free one"
            raise ConfigError(what, "port") from None
        if error.errno == errno.EACCES:
            message = f"port: {port} is not allowed without special rights; choose one from 1024"
            raise ConfigError(message, "port") from None
        if error.errno == errno.EADDRNOTAVAIL:
            raise ConfigError(f"host: `{host}` is not an address of this machine", "host") from None
        raise
    return listener


def url_of(listener: socket.socket) -> str:
    """The address at which a browser finds the service."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def make_server(
    model: RelationModel, limits: Limits | None = None, *, grace: float = 60, access_log: bool = False
) -> Any:
    """The server, whose ``run(sockets=[listener])`` returns after SIGTERM or Ctrl-C.

    Parameters
    ----------
    model : RelationModel
        The model.
    limits : Limits, optional
        What is accepted.
    grace : float
        Seconds within which it answers the requests that wait when it is to stop.
    access_log : bool
        Whether each request is logged.

    Returns
    -------
    uvicorn.Server
        The server. After ``run``, its attribute ``interrupted`` says whether Ctrl-C ended it.
    """
    uvicorn = check_installed()
    from biorel.serving.app import make_app  # noqa: PLC0415  (imports the extra)

    config = uvicorn.Config(
        make_app(model, limits),
        access_log=access_log,
        limit_concurrency=_CONNECTIONS,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=grace,
    )

    class Server(uvicorn.Server):  # type: ignore[misc, name-defined]
        """Knows whether Ctrl-C ended it: whether ``run`` raises KeyboardInterrupt then depends on a race in asyncio."""

        interrupted = False

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            self.interrupted = self.interrupted or sig == signal.SIGINT
            super().handle_exit(sig, frame)

    return Server(config)
