"""Throughput of ``biorel serve`` against ``model.predict`` on all sentences at once: pairs a second.

    BIOREL_CORPORA=... python benchmarks/studies/serve.py [--repeats 5] [--sentences 400] [--head attention] > serve.txt

The sentences of BC5CDR's development documents with at least two entities, all as drugs, and MiniLM fine-tuned for two steps.
The client sends requests of 1, 8 or 64 sentences over as many connections as keep 128 sentences in flight. The two
programs take turns; each has its own process, the client a third one on the same machine. A figure is the median over
the repeats. CPU time is that of the program alone, per pair; on a busy machine it says more than the time of the clock.
"""

import argparse
import http.client
import json
import os
import queue
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[1]))
from runlog import commit, cpu_features, cpu_name, load_average

IN_FLIGHT = 128


def sentences(limit: int) -> list[dict]:
    """Sentences of BC5CDR in the form that ``predict`` takes."""
    import biorel

    found: list[dict] = []
    source = Path(os.environ["BIOREL_CORPORA"]) / "bc5cdr" / "CDR_DevelopmentSet.PubTator.txt"
    for document in biorel.read_documents(source, "pubtator"):
        table = document.entities.set_index("id")
        for row in document.sentences.itertuples():
            inside = table.loc[row.entities]
            entities = [
                {"start": start - row.start, "end": end - row.start, "type": "drug"}
                for start, end in zip(inside["start"], inside["end"])
            ]
            if len(entities) > 1:
                found.append({"text": row.text, "entities": entities})
            if len(found) == limit:
                return found
    return found


def make_model(directory: Path, head: str) -> None:
    import biorel

    run = biorel.finetune(biorel.load_sample("ddi"), "minilm", head=head, max_steps=2, test=None, progress=False)
    run.model.save(directory)


def predict_on_demand(directory: str, source: str) -> None:
    """For each line of standard input, predict everything and print the seconds."""
    import biorel

    model = biorel.load(directory)
    given = json.loads(Path(source).read_text())
    pairs = len(model.predict(given))
    print(pairs, flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        model.predict(given)
        print(time.perf_counter() - started, flush=True)


def cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def send(url: str, bodies: list[bytes], connections: int) -> int:
    """Send all bodies and return the number of pairs in the answers."""
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    for body in bodies:
        waiting.put(body)
    counts, failed = [], []

    def client() -> None:
        connection = http.client.HTTPConnection(urlsplit(url).netloc)
        try:
            while True:
                connection.request("POST", "/predict", waiting.get_nowait())
                answer = connection.getresponse()
                content = answer.read()
                if answer.status != 200:
                    failed.append(content)
                    return
                counts.append(content.count(b'"relation":'))
        except queue.Empty:
            connection.close()

    threads = [threading.Thread(target=client) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed[0]
    return sum(counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sentences", type=int, default=400)
    parser.add_argument("--head", default="attention")
    parser.add_argument("--note", help="what else ran, for the head of the result")
    parser.add_argument("--predict", nargs=2, metavar=("MODEL", "FILE"), help="the process of model.predict")
    options = parser.parse_args()
    if options.predict:
        predict_on_demand(*options.predict)
        return
    given = sentences(options.sentences)
    with tempfile.TemporaryDirectory() as folder:
        model, source = Path(folder) / "model", Path(folder) / "sentences.json"
        make_model(model, options.head)
        source.write_text(json.dumps(given))
        command = [sys.executable, __file__, "--predict", str(model), str(source)]
        batch = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        command = [sys.executable, "-m", "biorel", "serve", str(model), "--port", "0"]
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            pairs = int(batch.stdout.readline())
            url = next(word for word in server.stderr.readline().split() if word.startswith("http://"))
            print(f"date     {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}")
            print(f"machine  {cpu_name()}, {os.cpu_count()} cores ({', '.join(cpu_features())}); load {load_average()}")
            print(f"commit   {commit()}")
            print(f"command  python benchmarks/studies/serve.py --repeats {options.repeats} "
                  f"--sentences {options.sentences} --head {options.head}")  # fmt: skip
            print(f"also ran {options.note or 'nothing that was noted'}")
            print(f"data     {len(given)} sentences, {pairs} pairs\n")
            print(f"{'request':>14}{'clients':>9}{'predict':>10}{'serve':>10}{'ratio':>8}"
                  f"{'predict':>12}{'serve':>9}{'ratio':>8}")  # fmt: skip
            print(f"{'':14}{'':9}{'pairs/s':>10}{'pairs/s':>10}{'':8}{'CPU ms/pair':>12}{'':9}", flush=True)
            for size in (1, 8, 64):
                bodies = [json.dumps(given[start : start + size]).encode() for start in range(0, len(given), size)]
                connections = min(max(IN_FLIGHT // size, 2), len(bodies))
                send(url, bodies[: 2 * connections], connections)  # warm up
                rates: dict[str, list[float]] = {"predict": [], "serve": []}
                costs: dict[str, list[float]] = {"predict": [], "serve": []}
                for _ in range(options.repeats):
                    before = cpu_seconds(batch.pid)
                    batch.stdin.write("\n")
                    batch.stdin.flush()
                    rates["predict"].append(pairs / float(batch.stdout.readline()))
                    costs["predict"].append((cpu_seconds(batch.pid) - before) / pairs)
                    before, started = cpu_seconds(server.pid), time.perf_counter()
                    assert send(url, bodies, connections) == pairs
                    rates["serve"].append(pairs / (time.perf_counter() - started))
                    costs["serve"].append((cpu_seconds(server.pid) - before) / pairs)
                rate = {name: statistics.median(values) for name, values in rates.items()}
                cost = {name: statistics.median(values) for name, values in costs.items()}
                print(
                    f"{size:>3} sentence{'s' if size > 1 else ' '} {connections:>9}{rate['predict']:10.1f}"
                    f"{rate['serve']:10.1f}{rate['serve'] / rate['predict']:8.2f}{1000 * cost['predict']:12.2f}"
                    f"{1000 * cost['serve']:9.2f}{cost['predict'] / cost['serve']:8.2f}",
                    flush=True,
                )
        finally:
            batch.stdin.close()
            batch.wait()
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
