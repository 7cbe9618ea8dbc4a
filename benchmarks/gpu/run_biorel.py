"""One measurement of biorel on a GPU, in its own process: prints one line of JSON. side_by_side.py and kit.sh call it.

    BIOREL_CORPORA=... python benchmarks/gpu/run_biorel.py train --encoder DIR --precision bf16
    python benchmarks/gpu/run_biorel.py jobs --encoder DIR --jobs 4           # concurrent trainings
    python benchmarks/gpu/run_biorel.py fold --encoder DIR --seed 1 --log F   # AIMed's fold 0 from start to end
    python benchmarks/gpu/run_biorel.py devices

`train` times steps after a warm-up; a step includes packing its batch. `predict` includes tokenisation and the table.
"""

import argparse
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import biorel

sys.path.insert(0, str(Path(__file__).parents[1] / "speed"))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "predict", "jobs", "fold", "devices"])
    parser.add_argument("--encoder", default="minilm", help="name or BERT directory")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="bf16")
    parser.add_argument("--head", default="attention")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--warmup", type=int, default=100, help="steps that are not timed")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--jobs", type=int, default=1, help="concurrent trainings, for `jobs`")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", type=Path, help="for `fold`: the log of benchmarks/speed/biorel_train.py")
    parser.add_argument("--trace", type=Path, help="for `train`: torch.profiler's trace of the timed steps")
    return parser.parse_args()


def unavailable(device: str) -> str:
    """Why there is no such device; an empty string if there is one."""
    if device == "cpu":
        return ""
    gpus = biorel.devices().query("device != 'cpu'")
    return "" if gpus["available"].any() else f"no device: {gpus['reason'].iloc[0]}"


def finetune(options: argparse.Namespace, callbacks: tuple[biorel.Callback, ...] = (), **settings: Any) -> biorel.Run:
    table = Path(os.environ["BIOREL_CORPORA"]) / "aimed" / "aimed_pairs.tsv"
    return biorel.finetune(
        biorel.load_corpus("aimed", table).fold(0),
        options.encoder,
        head=options.head,
        max_steps=options.warmup + options.steps,
        device=options.device,
        precision=options.precision,
        seed=options.seed,
        test=None,
        progress=False,
        callbacks=callbacks,
        **settings,
    )


class Trace(biorel.Callback):
    """torch.profiler over the timed steps. It records the kernels of the whole process, whoever launched them."""

    def __init__(self, options: argparse.Namespace) -> None:
        import torch

        self._options = options
        self._profiler = torch.profiler.profile()

    def on_step(self, row: dict[str, float]) -> None:
        if row["step"] == self._options.warmup:
            self._profiler.start()
        elif row["step"] == self._options.warmup + self._options.steps:
            self._profiler.stop()
            self._profiler.export_chrome_trace(str(self._options.trace))


def train(options: argparse.Namespace) -> dict[str, Any]:
    run = finetune(options, (Trace(options),) if options.trace else ())
    timed = run.history.iloc[options.warmup :]
    return {
        "sentences": int(timed["instances"].sum()),
        "tokens": int(timed["tokens"].sum()),
        "steps": len(timed),
        "seconds": float(timed["seconds"].sum()),
        "setting": run.settings["device"],
    }


def predict(options: argparse.Namespace) -> dict[str, Any]:
    table = Path(os.environ["BIOREL_CORPORA"]) / "aimed" / "aimed_pairs.tsv"
    corpus = biorel.load_corpus("aimed", table).fold(0)
    options.warmup, options.steps = 1, 0
    model = finetune(options).model
    model.predictions(corpus, "train")
    started = time.perf_counter()
    predictions = model.predictions(corpus, "train")
    return {"sentences": len(predictions), "steps": 1, "seconds": time.perf_counter() - started}


class Clock(biorel.Callback):
    """When each step was reported, and its instances."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, int]] = []

    def on_step(self, row: dict[str, float]) -> None:
        self.steps.append((time.perf_counter(), int(row["instances"])))


def jobs(options: argparse.Namespace) -> dict[str, Any]:
    """The throughput of concurrent trainings while all of them are past their warm-up and none has ended."""
    clocks = [Clock() for _ in range(options.jobs)]
    threads = max(1, (os.cpu_count() or 1) // options.jobs)
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda clock: finetune(options, (clock,), threads=threads), clocks))
    start = max(clock.steps[options.warmup - 1][0] for clock in clocks)
    end = min(clock.steps[-1][0] for clock in clocks)
    inside = [count for clock in clocks for at, count in clock.steps if start < at <= end]
    return {"jobs": options.jobs, "sentences": sum(inside), "steps": len(inside), "seconds": end - start}


def fold(options: argparse.Namespace) -> dict[str, Any]:
    """biorel_train.py with its settings; the scores are comparable with results/aimed_fold0 if the weights are MiniLM's."""
    import biorel_train

    log = options.log or Path("fold.jsonl")
    sys.argv = ["biorel_train.py", "--head", options.head, "--seed", str(options.seed), "--encoder", options.encoder]
    sys.argv += ["--device", options.device, "--precision", options.precision, "--log", str(log)]
    biorel_train.main()
    return json.loads(log.read_text().splitlines()[-1])


def devices(_: argparse.Namespace) -> dict[str, Any]:
    return {"devices": json.loads(biorel.devices().to_json(orient="records"))}


def main() -> None:
    options = parse_arguments()
    reason = unavailable(options.device) if options.what != "devices" else ""
    if reason:
        print(json.dumps({"skipped": reason}))
        return
    measure = {"train": train, "predict": predict, "jobs": jobs, "fold": fold, "devices": devices}[options.what]
    print(json.dumps({**measure(options), "biorel": biorel.__version__}))


if __name__ == "__main__":
    main()
