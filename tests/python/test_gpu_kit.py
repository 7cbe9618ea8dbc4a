"""The programs that `make gpu-kit` carries to a machine with a GPU, as far as they work without one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import biorel
import numpy as np
import pytest
from tiny_bert import write_encoder, write_safetensors

if sys.platform != "linux":
    pytest.skip("the folder is for Linux", allow_module_level=True)

FOLDER = Path(__file__).parents[2] / "benchmarks" / "gpu"


@pytest.fixture(autouse=True)
def _import_the_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))


def program(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def test_every_outcome_of_a_process_is_a_result() -> None:
    from processes import measure

    assert measure(program("print('noise'); print('{\"steps\": 3}')"), 60)["steps"] == 3
    assert measure(program('print(\'{"skipped": "no device"}\')'), 60)["status"] == "skipped"
    failed = measure(program("raise SystemExit('broken')"), 60)
    assert (failed["status"], failed["exit_code"]) == ("failed", 1)
    assert "broken" in failed["error"]
    assert measure(program("print('no object')"), 60)["status"] == "failed"


def test_a_time_limit_ends_a_process_and_those_it_started() -> None:
    from processes import measure

    # The grandchild holds the pipe: without its end `measure` would wait for it.
    child = program("import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])")
    result = measure(child, 1.5)
    assert result["status"] == "timeout"
    assert result["process_seconds"] < 30


def test_results_are_kept_and_reported_with_failures(tmp_path: Path) -> None:
    import side_by_side
    from processes import append, read

    path = tmp_path / "results.jsonl"
    speed = {"event": "speed", "repeat": 0, "status": "ok", "sentences": 3200, "tokens": 150_000, "steps": 100}
    append(path, {"event": "speed", "name": "peak", "repeat": 0, "status": "ok", "tflops": 500.0})
    append(path, {**speed, "name": "bert-base/train/biorel-bf16", "seconds": 0.5})
    append(path, {**speed, "name": "bert-base/train/autocast-max-eager", "seconds": 2.0})
    append(path, {"event": "speed", "name": "bert-base/train/x", "repeat": 1, "status": "timeout", "error": "a\nlast"})
    lines = side_by_side.report(read(path))
    (eager,) = [line for line in lines if "autocast-max-eager" in line]
    assert eager.split()[1:4] == ["1600", "1600", "20.00"]
    assert eager.endswith("4.00x")
    assert any("bert-base/train/x, repeat 1: timeout" in line and "last" in line for line in lines)


def test_kernels_are_read_from_both_profilers(tmp_path: Path) -> None:
    import profile_step

    events = [
        {"cat": "kernel", "name": "gemm", "dur": 5.0},
        {"cat": "kernel", "name": "gemm", "dur": 7},
        {"cat": "gpu_memcpy", "name": "copy", "dur": 1},
        {"cat": "cpu_op", "name": "aten::mm", "dur": 9},
        {"ph": "M"},
    ]
    (tmp_path / "trace.json").write_text(json.dumps({"traceEvents": events}))
    assert profile_step.from_trace(tmp_path / "trace.json") == {"gemm": (2, 12.0), "copy": (1, 1.0)}
    header = "Time (%),Total Time (ns),Instances,Avg (ns),Name"
    table = f'Processing...\n\n{header}\n90.0,12000,2,6000,"gemm<float, 4>"\n10.0,1000,1,1000,copy\n'
    assert profile_step.from_nsys(table) == {"gemm<float, 4>": (2, 12.0), "copy": (1, 1.0)}
    assert profile_step.from_nsys("no such report") == {}


def test_an_encoder_with_random_weights_can_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import encoders

    tiny = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
    tokenizer = write_encoder(tmp_path / "tokenizer")
    words = len((tokenizer / "vocab.txt").read_text(encoding="utf-8").splitlines())
    monkeypatch.setitem(encoders.SHAPES, "tiny", {**tiny, "vocab_size": words})
    encoders.write("tiny", tmp_path / "encoder", tokenizer)
    (states,) = biorel.load_encoder(tmp_path / "encoder").encode(["Aspirin increases the effect of warfarin."])
    assert states.shape[1] == 24
    assert 0.5 < states.std() < 2


def test_synthetic_pairs_are_as_many_and_about_as_long_as_aimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import make_kit

    monkeypatch.delenv("BIOREL_CORPORA", raising=False)
    table = tmp_path / "aimed" / "aimed_pairs.tsv"
    make_kit.write_pairs(table)
    corpus = biorel.load_corpus("aimed", table).fold(0)
    sizes = corpus.statistics().set_index("split")["pairs"]
    assert sizes.sum() == make_kit.PAIRS
    assert 400 < sizes["test"] < 800
    assert 150 < corpus.instances("train")["text"].str.len().mean() < 280


def test_weights_in_bf16_are_rounded_to_the_nearest(tmp_path: Path) -> None:
    import make_kit

    # 1 + 2^-8 lies between two values of bf16, of which 1 is even; 1 + 3 * 2^-9 is nearer to the one above.
    values = np.array([1.0, -2.5, 1 + 2**-8, 1 + 3 * 2**-9], np.float32)
    write_safetensors(tmp_path / "f32", {"weight": values})
    make_kit.write_bf16(tmp_path / "f32", tmp_path / "bf16")
    data = (tmp_path / "bf16").read_bytes()
    length = int.from_bytes(data[:8], "little")
    assert json.loads(data[8 : 8 + length])["weight"] == {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}
    read = (np.frombuffer(data[8 + length :], np.uint16).astype(np.uint32) << 16).view(np.float32)
    assert read.tolist() == [1.0, -2.5, 1.0, 1 + 2**-7]
