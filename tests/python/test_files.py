"""Atomic writes, locks, and the journal that run directories and prediction directories share."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path
from typing import Any

import biorel
import pytest
from biorel._files import atomic_file, atomic_write, atomic_write_directory, exclusive_lock
from biorel._journal import Journal, append_lines
from child_process import kill_after, start_python


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def write_half(path: Path) -> None:
    with atomic_file(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt


def test_a_file_is_replaced_or_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    atomic_write(path, "one\r\n")
    with pytest.raises(KeyboardInterrupt):
        write_half(path)
    assert path.read_bytes() == b"one\r\n"
    assert names(tmp_path) == ["a.txt"]


def test_a_directory_is_replaced_or_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "models" / "one"
    atomic_write_directory(path, {"a": b"1", "b": b"2"})
    atomic_write_directory(path, {"a": b"3"})
    assert {name: (path / name).read_bytes() for name in names(path)} == {"a": b"3"}
    with pytest.raises(OSError, match="a"):
        atomic_write_directory(path, {"a": b"4", "a/b": b""})  # a file and a folder of one name
    assert (path / "a").read_bytes() == b"3"
    assert names(path.parent) == ["one"]
    atomic_write_directory(path, {"a": b"5", "part/b": b"6"})
    assert (path / "part" / "b").read_bytes() == b"6"
    assert names(path) == ["a", "part"]


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_a_kill_leaves_the_earlier_or_the_new_directory(tmp_path: Path) -> None:
    """If the earlier directory were removed before the new one is renamed, there would sometimes be none."""
    path = tmp_path / "model"
    program = (
        "import sys; from pathlib import Path; from biorel._files import atomic_write_directory\n"
        "for n in range(10**9):\n"
        "    atomic_write_directory(Path(sys.argv[1]), {name: b'%d' % n for name in 'abcde'})\n"
        "    if n == 1: print('started', flush=True)\n"
    )
    delays = random.Random(1)
    for _ in range(8):
        process = start_python(program, path, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        assert kill_after(lambda: True, process, delay=delays.uniform(0, 0.05))
        process.stdout.close()
        found = biorel._biorel.Model.place(path)
        assert names(found) == list("abcde")
        assert len({(found / name).read_bytes() for name in "abcde"}) == 1


def test_a_lock_is_exclusive_and_released_with_its_process(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    program = (
        "import sys; from pathlib import Path; from biorel._files import exclusive_lock\n"
        "with exclusive_lock(Path(sys.argv[1]), Path('here')): print('locked', flush=True); sys.stdin.read()\n"
    )
    process = start_python(program, file, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"locked\n"
    with (
        pytest.raises(biorel.ConfigError, match="output: another run is working in here"),
        exclusive_lock(file, Path("here"), "output"),
    ):
        pass
    process.kill()
    process.communicate()
    with exclusive_lock(file, tmp_path):
        pass


def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "plan.json", tmp_path / "lines.jsonl", field="directory", remedy="delete that line")


def check(record: Any, number: int) -> None:
    if not isinstance(record, dict) or record.get("n") != number:
        raise ValueError(f"it is not number {number}")


def test_a_journal_reads_what_was_appended(tmp_path: Path) -> None:
    log = journal(tmp_path)
    assert log.read(check) == ([], False)
    records = [log.append({"n": n, "text": "a\u2028β"}) for n in range(3)]
    assert log.read(check) == (records, False)
    assert log.lines.read_bytes().count(b"\n") == 3


def test_an_incomplete_last_line_is_removed(tmp_path: Path) -> None:
    log = journal(tmp_path)
    first = log.append({"n": 0})
    log.append({"n": 1, "text": "β"})
    complete = log.lines.read_bytes()
    start = complete.index(b"\n") + 1
    for size in range(start + 1, len(complete)):
        log.lines.write_bytes(complete[:size])
        assert log.read(check) == ([first], True)
        assert log.lines.read_bytes() == complete[:start]
        log.append({"n": 1, "text": "β"})
        assert log.lines.read_bytes() == complete


@pytest.mark.parametrize("line", [b"{]", b"null", b'{"n": 7}', b"[" * 100_000, b"\xff"])
def test_a_corrupt_line_is_named(tmp_path: Path, line: bytes) -> None:
    log = journal(tmp_path)
    log.append({"n": 0})
    with log.lines.open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(biorel.ConfigError, match=r"directory: .*lines\.jsonl:2 is corrupt \(.*\); delete that line"):
        log.read(check)


def test_a_plan_is_compared_key_by_key(tmp_path: Path) -> None:
    log = journal(tmp_path)
    assert log.read_plan() is None
    plan = {"kind": "comparison", "settings": {"epochs": 3, "dev": None}}
    log.write_plan(plan)
    found = log.read_plan()
    assert found == plan
    log.check_plan(found, plan)
    with pytest.raises(biorel.ConfigError, match="was started with epochs 3, not 4. Give the same"):
        log.check_plan(found, {**plan, "settings": {"epochs": 4, "dev": None}})
    for corrupt in (b"[]", b"{", b"[" * 100_000, b"\xff"):
        log.plan.write_bytes(corrupt)
        with pytest.raises(biorel.ConfigError, match=r"plan\.json is corrupt"):
            log.read_plan()


def test_lines_are_appended_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "errors.jsonl"
    assert append_lines(path, []) == 0
    assert path.exists()
    assert append_lines(path, ["one", "β"]) == 7
