"""The level of the paired tests: how often they call two equally good models different."""

from __future__ import annotations

import biorel
import numpy as np
import pytest
from biorel import _biorel

SIMULATIONS = 400


def simulate(generator: np.random.Generator, documents: int = 60) -> tuple[np.ndarray, list[int], list[list[int]]]:
    """Documents of 2 to 14 pairs. Two models of equal skill: in each document, each errs at a rate of its own."""
    document = np.repeat(np.arange(documents), generator.integers(2, 15, documents))
    gold = generator.integers(0, 2, len(document))
    predicted = []
    for _ in range(2):
        rates = generator.beta(0.5, 1.5, documents)[document]
        predicted.append(np.where(generator.random(len(document)) < rates, 1 - gold, gold).tolist())
    return document, gold.tolist(), predicted


@pytest.fixture(scope="module")
def rates() -> dict[str, float]:
    """The share of p < 0.05 for each test, by instance and by document."""
    task = biorel.load_sample("aimed")._core.task
    generator = np.random.default_rng(1)
    significant = {f"{test}, {unit}": 0 for test in ("bootstrap", "McNemar") for unit in ("instance", "document")}
    for _ in range(SIMULATIONS):
        document, gold, (first, second) = simulate(generator)
        for unit, drawn in (("instance", list(range(len(gold)))), ("document", document.tolist())):
            p = _biorel.bootstrap(task, gold, [first], [second], drawn, samples=500, confidence_level=0.95, seed=1)[2]
            significant[f"bootstrap, {unit}"] += p < 0.05
        p = _biorel.mcnemar(task, gold, first, second)[3]
        significant["McNemar, instance"] += p < 0.05
        p = _biorel.mcnemar_by_unit(task, gold, first, second, document.tolist(), samples=500, seed=1)[3]
        significant["McNemar, document"] += p < 0.05
    return {name: count / SIMULATIONS for name, count in significant.items()}


@pytest.mark.parametrize("test", ["bootstrap", "McNemar"])
def test_whole_documents_keep_the_level(rates: dict[str, float], test: str) -> None:
    # Three standard errors of 400 simulations at 0.05.
    assert rates[f"{test}, document"] == pytest.approx(0.05, abs=0.033)


@pytest.mark.parametrize("test", ["bootstrap", "McNemar"])
def test_single_instances_do_not(rates: dict[str, float], test: str) -> None:
    assert rates[f"{test}, instance"] > 0.2
