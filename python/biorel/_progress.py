"""Progress: a bar in a terminal or a notebook; elsewhere, as in log files, a line every half minute."""

from __future__ import annotations

import contextlib
import contextvars
import sys
import time
from collections.abc import Iterator
from typing import Any

from tqdm.auto import tqdm

# The time between two lines, in seconds.
_INTERVAL = 30.0
# The number of steps from which the duration is estimated, and the time after which fewer must do.
MEASURED = 6
_ENOUGH = 10.0
# A run with a shorter expected duration, in seconds, needs no estimate.
_LONG = 60.0
_transient = contextvars.ContextVar("transient", default=False)


class Progress:
    """The progress of something with a known length.

    Parameters
    ----------
    total : int
        The length.
    title, unit : str
        What is done, and what is counted.
    show : bool
        Whether to show anything.
    initial : int
        How much had been done before.
    scaled : bool
        Show the unit with prefixes (kB, MB).
    estimated : bool
        Write how long it will take, if that is more than a minute.
    """

    def __init__(
        self,
        total: int,
        title: str,
        unit: str,
        *,
        show: bool = True,
        initial: int = 0,
        scaled: bool = False,
        estimated: bool = False,
    ) -> None:
        self._total, self._title, self._unit, self._scaled = total, title, unit, scaled
        self._show = show
        self.done = initial
        self._initial = initial
        self._text = ""
        self._start = self._shown = time.monotonic()
        self._estimate = _Estimate() if show and estimated else None
        self._bar: Any = None
        if show and has_bars():
            options: dict[str, Any] = {"total": total, "desc": title, "unit": unit, "initial": initial}
            self._bar = tqdm(**options, leave=not _transient.get(), unit_scale=scaled, smoothing=0.1)

    @property
    def elapsed(self) -> float:
        """Seconds since the start, above zero."""
        return max(time.monotonic() - self._start, 1e-9)

    def advance(self, done: int, text: str = "") -> None:
        """Show how much is done in all, and a text with it."""
        self._text = text
        before, self.done = self.done, done
        if self._estimate is not None and (seconds := self._estimate.after(done, self._total)):
            write_line(f"about {describe_duration(seconds)}: {self._number(self._total - done)}{self._unit}")
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(done - before)
        elif self._show and time.monotonic() - self._shown >= _INTERVAL:
            self._line()

    def close(self) -> None:
        """Leave the bar at the current position; without a bar, write a last line if that took a while."""
        if self._bar is not None:
            self._bar.close()
        elif self._show and self.elapsed >= _INTERVAL:
            self._line()
        self._show = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _line(self) -> None:
        self._shown = time.monotonic()
        new = self.done - self._initial
        remaining = (self._total - self.done) * self.elapsed / max(new, 1)
        parts = [f"{self._number(self.done)}/{self._number(self._total)} {self._unit}".rstrip()]
        parts.append(f"{tqdm.format_interval(self.elapsed)} elapsed")
        if self.done < self._total and new:
            parts.append(f"{tqdm.format_interval(remaining)} left")
        write_line(f"{self._title}: {', '.join([*parts, self._text] if self._text else parts)}")

    def _number(self, count: int) -> str:
        return tqdm.format_sizeof(count) if self._scaled else f"{count:,}"


class Counter:
    """The progress of something whose length is not known.

    Parameters
    ----------
    title, unit : str
        What is done, and what is counted.
    show : bool
        Whether to show anything.
    """

    def __init__(self, title: str, unit: str, *, show: bool = True) -> None:
        self._title, self._unit, self._show = title, unit, show
        self._start = self._shown = time.monotonic()
        self._bar: Any = None
        if show and has_bars():
            self._bar = tqdm(desc=title, unit=f" {unit}", leave=not _transient.get())

    def advance(self, done: int) -> None:
        """Show how much is done in all."""
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(done - self._bar.n)
        elif self._show and now - self._shown >= _INTERVAL:
            self._shown = now
            elapsed = tqdm.format_interval(now - self._start)
            write_line(f"{self._title}: {done:,} {self._unit}, {elapsed} elapsed")

    def __enter__(self) -> Counter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()


class _Estimate:
    """The time that is left, once, after the first steps. The very first is slower and is not counted."""

    def __init__(self) -> None:
        self._steps: list[tuple[float, float]] = []
        self._over = False

    def after(self, done: float, total: float) -> float:
        """The seconds that are left after this step; 0 if that is not known yet, was told before, or is not long."""
        if self._over:
            return 0.0
        self._steps.append((time.monotonic(), done))
        (start, before), (now, _) = self._steps[0], self._steps[-1]
        if done <= before or (len(self._steps) < MEASURED and now - start < _ENOUGH):
            return 0.0
        self._over = True
        left = (total - done) * (now - start) / (done - before)
        return left if is_long(left) else 0.0


class LongWork:
    """Progress of work that is seldom long: nothing is shown unless it will take more than a minute.

    Parameters
    ----------
    total : int
        How much there is to do.
    title, unit : str
        What is done, and what is counted.
    show : bool
        Whether to show anything.
    """

    def __init__(self, total: int, title: str, unit: str, *, show: bool = True) -> None:
        self._total, self._title, self._unit = total, title, unit
        self._show = show
        self._estimate = _Estimate()
        self._progress: Progress | None = None

    def report(self, share: float) -> None:
        """Called after each step with the share of the work that is done."""
        done = round(share * self._total)
        if self._progress is not None:
            self._progress.advance(done)
        elif self._show and (seconds := self._estimate.after(share, 1.0)):
            left = self._total - done
            rate = left / seconds
            write_line(f"about {describe_duration(seconds)}: {left:,} {self._unit} at {rate:,.1f} a second")
            self._progress = Progress(self._total, self._title, self._unit, initial=done)

    def close(self) -> None:
        """Leave the bar, if there is one, at its position."""
        if self._progress is not None:
            self._progress.close()

    def __enter__(self) -> LongWork:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_long(seconds: float) -> bool:
    """Whether a run is announced with its expected duration."""
    return seconds > _LONG


@contextlib.contextmanager
def transient_bars() -> Iterator[None]:
    """Bars that begin inside are removed when they are done: what encloses them writes a line for each."""
    token = _transient.set(True)
    try:
        yield
    finally:
        _transient.reset(token)


def has_bars() -> bool:
    """Whether bars can be drawn: in a notebook, or on a terminal."""
    if any(base.__module__ == "tqdm.notebook" for base in tqdm.__mro__):
        return True
    return sys.stderr is not None and sys.stderr.isatty()


def write_line(text: str) -> None:
    """Write a line to standard error without breaking a bar."""
    tqdm.write(text, file=sys.stderr)


def describe_duration(seconds: float) -> str:
    """A duration in words, in two units at most.

    Examples
    --------
    >>> from biorel._progress import describe_duration
    >>> [describe_duration(seconds) for seconds in (40, 90, 8000, 200_000)]
    ['40 s', '2 min', '2 h 13 min', '2 d 7 h']
    """
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"
