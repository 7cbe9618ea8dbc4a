"""Counters of the service in the text format of Prometheus; a dozen lines of text need no library."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_PAIRS = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0)


class Histogram:
    """Counts of values in buckets."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def lines(self, name: str, labels: Mapping[str, str]) -> Iterable[str]:
        """The lines of the buckets, the sum and the count."""
        total = 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            total += count
            shown = "+Inf" if bound == float("inf") else f"{bound:g}"
            yield f"{name}_bucket{_labels({**labels, 'le': shown})} {total}"
        yield f"{name}_sum{_labels(labels)} {self.sum:.6f}"
        yield f"{name}_count{_labels(labels)} {total}"


class Metrics:
    """What the service has done since its start.

    Examples
    --------
    >>> from biorel.serving.metrics import Metrics
    >>> metrics = Metrics({"version": "1"})
    >>> metrics.request("/predict", 200, 0.02)
    >>> metrics.batch(64, 3, 0.5)
    >>> [line for line in metrics.text(2, 30).splitlines() if line.startswith(("biorel_requests", "biorel_pairs"))]
    ['biorel_requests_total{endpoint="/predict",code="200"} 1', 'biorel_pairs_total 64']
    """

    def __init__(self, info: Mapping[str, str]) -> None:
        self._info = dict(info)
        self._lock = threading.Lock()
        self._requests: dict[tuple[str, str], int] = {}
        self._seconds: dict[str, Histogram] = {}
        self._pairs = 0
        self._jobs = 0
        self._model_seconds = 0.0
        self._batch_pairs = Histogram(_PAIRS)

    def request(self, endpoint: str, code: int, seconds: float) -> None:
        """Count an answered request."""
        with self._lock:
            key = endpoint, str(code)
            self._requests[key] = self._requests.get(key, 0) + 1
            self._seconds.setdefault(endpoint, Histogram(_SECONDS)).add(seconds)

    def batch(self, pairs: int, jobs: int, seconds: float) -> None:
        """Count a batch of the model."""
        with self._lock:
            self._pairs += pairs
            self._jobs += jobs
            self._model_seconds += seconds
            self._batch_pairs.add(pairs)

    def text(self, waiting_requests: int, waiting_pairs: int) -> str:
        """All metrics, with the current length of the queue."""
        with self._lock:
            lines = [
                *_head("biorel_info", "gauge", "The model and what computes."),
                f"biorel_info{_labels(self._info)} 1",
            ]
            lines += _head("biorel_requests_total", "counter", "Requests, by endpoint and status.")
            for (endpoint, code), count in sorted(self._requests.items()):
                lines.append(f"biorel_requests_total{_labels({'endpoint': endpoint, 'code': code})} {count}")
            lines += _head("biorel_request_seconds", "histogram", "Time from the request line to the answer.")
            for endpoint, histogram in sorted(self._seconds.items()):
                lines += histogram.lines("biorel_request_seconds", {"endpoint": endpoint})
            lines += _head("biorel_pairs_total", "counter", "Pairs that the model classified or explained.")
            lines.append(f"biorel_pairs_total {self._pairs}")
            lines += _head("biorel_model_requests_total", "counter", "Requests that the model has done.")
            lines.append(f"biorel_model_requests_total {self._jobs}")
            lines += _head("biorel_model_seconds_total", "counter", "Time in which the model computed.")
            lines.append(f"biorel_model_seconds_total {self._model_seconds:.6f}")
            lines += _head("biorel_batch_pairs", "histogram", "Pairs per batch of the model.")
            lines += self._batch_pairs.lines("biorel_batch_pairs", {})
        lines += [*_head("biorel_queue_requests", "gauge", "Requests that wait for the model.")]
        lines += [f"biorel_queue_requests {waiting_requests}"]
        lines += [
            *_head("biorel_queue_pairs", "gauge", "Pairs of these requests."),
            f"biorel_queue_pairs {waiting_pairs}",
        ]
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    escaped = {
        name: value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") for name, value in labels.items()
    }
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped.items()) + "}"
