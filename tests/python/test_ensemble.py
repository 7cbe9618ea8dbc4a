"""Ensembles: the mean of the members' probabilities, whatever the order in which they see the pairs."""

import warnings
from pathlib import Path

import biorel
import numpy as np
import pandas as pd
import pytest

SETTINGS = {"learning_rate": 1e-2, "max_steps": 6, "max_length": 96, "threads": 1, "progress": False, "test": None}


@pytest.fixture(scope="module")
def models(ddi: biorel.Corpus, encoder: biorel.Encoder) -> list[biorel.RelationModel]:
    one_pass = {"head": "entity", "marking": "levitated", "max_length": 80}
    settings = [{"seed": 1}, {"seed": 2}, one_pass]
    return [biorel.finetune(ddi, encoder, **(SETTINGS | own)).model for own in settings]


def probabilities(table: pd.DataFrame) -> np.ndarray:
    return table[[name for name in table if name.startswith("p_")]].to_numpy(float)


def test_probabilities_are_the_means_of_the_members(models: list[biorel.RelationModel], ddi: biorel.Corpus) -> None:
    tables = [model.predictions(ddi).set_index("id") for model in models]
    found = biorel.ensemble(models).predictions(ddi)
    expected = np.mean([probabilities(table.loc[found["id"]]) for table in tables], axis=0)
    np.testing.assert_allclose(probabilities(found), expected, rtol=1e-6)
    np.testing.assert_array_equal(found["predicted"], np.array(ddi.labels)[expected.argmax(axis=1)])
    np.testing.assert_allclose(found["probability"], expected.max(axis=1), rtol=1e-6)
    # The members disagree somewhere, or this would test nothing.
    assert len({tuple(table.loc[found["id"], "predicted"]) for table in tables}) > 1


def test_sentences_and_tables(models: list[biorel.RelationModel]) -> None:
    text = "Velotrazine increases nalexpidol and aspirin."
    spans = [(0, 11), (22, 32), (37, 44)]
    sentence = {"text": text, "entities": [{"start": a, "end": b, "type": "drug"} for a, b in spans]}
    both = biorel.ensemble(models)
    tables = [model.predict([sentence]) for model in models]
    key = ["start1", "start2"]
    aligned = [table.set_index(key).loc[list(map(tuple, tables[0][key].to_numpy()))] for table in tables]
    expected = np.mean([probabilities(table) for table in aligned], axis=0)
    np.testing.assert_allclose(probabilities(both.predict([sentence])), expected, rtol=1e-6)
    rows = pd.DataFrame({"text": [text] * 2, "entity1": ["velotrazine"] * 2, "entity2": ["nalexpidol", "aspirin"]})
    found = both.predict(rows.set_index(pd.Index(["a", "b"])))
    assert found.index.tolist() == ["a", "b"]
    np.testing.assert_allclose(
        probabilities(found), np.mean([probabilities(model.predict(rows)) for model in models], axis=0), rtol=1e-6
    )


def test_a_pair_that_a_member_cannot_classify(
    ddi: biorel.Corpus, encoder: biorel.Encoder, models: list[biorel.RelationModel]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of instances that were cut and dropped
        short = biorel.finetune(ddi, encoder, **(SETTINGS | {"max_length": 12, "too_long": "drop"})).model
    alone, other = short.predictions(ddi), models[0].predictions(ddi)
    missing = alone["predicted"].isna()
    assert missing.any()
    assert not missing.all()
    found = biorel.ensemble([short, models[0]]).predictions(ddi)
    np.testing.assert_allclose(probabilities(found)[missing], probabilities(other)[missing], rtol=1e-6)
    none = biorel.ensemble([short, short]).predictions(ddi)
    assert none["predicted"].isna().tolist() == missing.tolist()


def test_scores_and_files(models: list[biorel.RelationModel], ddi: biorel.Corpus, tmp_path: Path) -> None:
    both = biorel.ensemble(models[:2])
    scores = both.evaluate(ddi)
    both.save(tmp_path / "both")
    both.save(tmp_path / "both")  # in the place of the first
    loaded = biorel.load_ensemble(tmp_path / "both")
    pd.testing.assert_frame_equal(loaded.evaluate(ddi), scores)
    assert scores.attrs["protocol"] == models[0].evaluate(ddi).attrs["protocol"]
    models[0].save(tmp_path / "single")
    with pytest.raises(biorel.CheckpointError, match=r"no ensemble\.json.*biorel\.load"):
        biorel.load_ensemble(tmp_path / "single")
    with pytest.raises(biorel.ConfigError, match="is not an ensemble"):
        both.save(tmp_path / "single")
    (tmp_path / "both" / "ensemble.json").write_text("{", encoding="utf-8")
    with pytest.raises(biorel.CheckpointError, match="not the description of an ensemble"):
        biorel.load_ensemble(tmp_path / "both")


def test_models_of_other_tasks_are_refused(models: list[biorel.RelationModel], encoder: biorel.Encoder) -> None:
    aimed = biorel.load_sample("aimed")
    other = biorel.finetune(aimed.fold(0, folds=2), encoder, **SETTINGS).model
    with pytest.raises(biorel.ConfigError, match="an ensemble needs the same"):
        biorel.ensemble([models[0], other])
    for few in ([], [models[0]], "directory"):
        with pytest.raises(biorel.ConfigError, match="two models or more"):
            biorel.ensemble(few)  # type: ignore[arg-type]
