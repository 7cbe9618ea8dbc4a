"""The command ``serve``: a saved model as an HTTP service."""

from __future__ import annotations

import argparse
import logging
import sys

from biorel.cli.options import Commands, add_command, add_model, load_model
from biorel.cli.output import say
from biorel.serving.limits import Limits
from biorel.serving.server import check_installed, listen, make_server, url_of

_LOOPBACK = ("127.", "::1", "localhost")


def add_commands(commands: Commands) -> None:
    """Add the command of this file."""
    text = "answer requests for predictions over HTTP, with a page for the browser"
    parser = add_command(commands, "serve", _serve, text)
    add_model(parser)
    usual = Limits()
    server = parser.add_argument_group("server")
    text = "address to listen on (default: 127.0.0.1, which only this machine reaches)"
    server.add_argument("--host", default="127.0.0.1", help=text)
    server.add_argument("--port", type=int, default=8000, help="port; 0 for a free one (default: 8000)")
    text = "on SIGTERM, answer what waits within so many seconds (default: 60)"
    server.add_argument("--grace", type=int, default=60, metavar="SECONDS", help=text)
    limits = parser.add_argument_group("limits")
    text = f"largest body, in MiB (default: {usual.max_body >> 20})"
    limits.add_argument("--max-body", type=float, default=usual.max_body >> 20, metavar="MIB", help=text)
    text = f"seconds that a client has to send a body (default: {usual.body_timeout:g})"
    limits.add_argument("--body-timeout", type=float, default=usual.body_timeout, metavar="SECONDS", help=text)
    text = f"sentences or rows in a request (default: {usual.max_sentences})"
    limits.add_argument("--max-sentences", type=int, default=usual.max_sentences, help=text)
    text = f"pairs in a request (default: {usual.max_pairs})"
    limits.add_argument("--max-pairs", type=int, default=usual.max_pairs, help=text)
    text = f"pairs that may wait; further requests get 429 (default: {usual.queue_pairs})"
    limits.add_argument("--queue-pairs", type=int, default=usual.queue_pairs, help=text)
    text = f"classify waiting requests together while they have fewer pairs (default: {usual.batch_pairs})"
    limits.add_argument("--batch-pairs", type=int, default=usual.batch_pairs, help=text)
    text = f"milliseconds for which a batch waits for more requests (default: {usual.batch_wait * 1000:g})"
    limits.add_argument("--batch-wait", type=float, default=usual.batch_wait * 1000, metavar="MS", help=text)


def _serve(options: argparse.Namespace) -> None:
    check_installed()
    limits = Limits(
        max_body=int(options.max_body * (1 << 20)),
        body_timeout=options.body_timeout,
        max_sentences=options.max_sentences,
        max_pairs=options.max_pairs,
        queue_pairs=options.queue_pairs,
        batch_pairs=options.batch_pairs,
        batch_wait=options.batch_wait / 1000,
    )
    debug = options.log_level == "debug"
    if debug:
        logging.basicConfig(stream=sys.stderr, level=logging.INFO)
    with listen(options.host, options.port) as listener:
        model = load_model(options)
        server = make_server(model, limits, grace=options.grace, access_log=debug)
        if not options.host.startswith(_LOOPBACK):
            say(f"warning: {options.host} may be reached by others; there is no authentication", "warning")
        say(f"{model.identity} on {model._compute.device}: {url_of(listener)} (Ctrl-C ends it)")
        server.run(sockets=[listener])
        if server.interrupted:
            raise KeyboardInterrupt
