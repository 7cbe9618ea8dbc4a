"""Write golden.json: scores of random confusion matrices as scikit-learn computes them.

Run once, in an environment of its own: `pip install scikit-learn==1.9.1 && python make_golden.py`.
The Rust test `tests/metrics.rs` recomputes every figure.
"""

import json
import pathlib
import random

import numpy as np
import sklearn
from sklearn.metrics import accuracy_score, precision_recall_fscore_support


def prf(gold, predicted, labels, average):
    p, r, f, _ = precision_recall_fscore_support(gold, predicted, labels=labels, average=average, zero_division=0)
    return [float(p), float(r), float(f)]


def scores(pairs, n, negative):
    gold = np.array([g for g, _ in pairs])
    predicted = np.array([p for _, p in pairs])
    every = list(range(n))
    positive = [label for label in every if label != negative]
    classes = precision_recall_fscore_support(gold, predicted, labels=every, average=None, zero_division=0)
    binary = None
    if negative is not None:
        is_found = (predicted != negative) & (predicted != n)
        binary = prf((gold != negative).astype(int), is_found.astype(int), [1], "micro")
    return {
        "classes": [[float(p), float(r), float(f), int(s)] for p, r, f, s in zip(*classes)],
        "micro": prf(gold, predicted, positive, "micro"),
        "macro": prf(gold, predicted, positive, "macro"),
        "macro_all": prf(gold, predicted, every, "macro"),
        "binary": binary,
        "accuracy": float(accuracy_score(gold, predicted)),
    }


def case(rng, n, negative, scale, never_gold, never_predicted):
    """One random matrix, with labels that never occur as gold or are never predicted."""
    counts = [[rng.randint(0, scale) if rng.random() < 0.8 else 0 for _ in range(n)] for _ in range(n)]
    for label in range(n):
        counts[label][label] += rng.randint(0, 2 * scale)
    for label in never_gold:
        counts[label] = [0] * n
    for label in never_predicted:
        for row in counts:
            row[label] = 0
    pairs = [(g, p) for g in range(n) for p in range(n) for _ in range(counts[g][p])]
    lost = [0 if label == negative or rng.random() < 0.5 else rng.randint(1, 5) for label in range(n)]
    # Nothing was predicted for a lost positive: here, a label that is none of the task's.
    missed = [(label, n) for label in range(n) for _ in range(lost[label])]
    if not pairs:
        return None
    return {
        "negative": negative,
        "counts": counts,
        "lost": lost,
        "scores": scores(pairs, n, negative),
        "scores_with_lost": scores(pairs + missed, n, negative),
    }


def main():
    rng = random.Random(20120706)
    cases = []
    while len(cases) < 120:
        n = rng.choice([2, 2, 3, 5, 6, 10])
        negative = rng.choice([None, 0, 0, n - 1])
        positives = [label for label in range(n) if label != negative]
        empty = [[], []] if len(cases) % 3 else [rng.sample(positives, rng.randint(0, len(positives))) for _ in "gp"]
        cases += filter(None, [case(rng, n, negative, rng.choice([1, 3, 40]), *empty)])
    golden = {"scikit-learn": sklearn.__version__, "cases": cases}
    path = pathlib.Path(__file__).with_name("golden.json")
    path.write_text(json.dumps(golden, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
