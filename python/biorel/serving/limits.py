"""What the service accepts."""

from __future__ import annotations

import math
from dataclasses import dataclass

from biorel.errors import BiorelError, ConfigError


class TooLargeError(BiorelError):
    """A request exceeds a limit of the service."""


@dataclass(frozen=True)
class Limits:
    """What the service accepts.

    Attributes
    ----------
    max_body : int
        Bytes of a body.
    body_timeout : float
        Seconds that a client has to send a body.
    max_sentences : int
        Sentences, or rows of a table, in a request.
    max_pairs : int
        Pairs in a request.
    queue_pairs : int
        Pairs that may wait, of all requests.
    batch_pairs : int
        Requests are added to a batch while it has fewer pairs.
    batch_wait : float
        Seconds for which a batch that is not full waits for more requests.
    """

    max_body: int = 4 << 20
    body_timeout: float = 30.0
    max_sentences: int = 1000
    max_pairs: int = 4000
    queue_pairs: int = 8000
    batch_pairs: int = 64
    batch_wait: float = 0.004

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("max_body", "body_timeout", "max_sentences", "max_pairs", "queue_pairs", "batch_pairs"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}: must be greater than 0, not {getattr(self, name)}", name)
        if not 0 <= self.batch_wait < math.inf:
            raise ConfigError(f"batch_wait: must be 0 or more, not {self.batch_wait}", "batch_wait")
        if self.queue_pairs < self.max_pairs:
            message = f"queue_pairs: {self.queue_pairs} is less than the {self.max_pairs} pairs of one request"
            raise ConfigError(f"{message}; raise it, or lower max_pairs", "queue_pairs")
