"""Save a model of the tiny encoder, with its predictions: later versions of biorel must read it and predict the same.

Run ``PYTHONPATH=tests/python python tests/golden/make_saved_model.py`` once for each version that changes what a model's
directory has; the folder has the name of the version. Earlier folders stay as they are.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import biorel
from tiny_bert import write_encoder

FOLDER = Path(__file__).parent / "saved_models" / biorel.__version__
SENTENCES = [
    "Velotrazine increases the clearance of nalexpidol.",
    "Hembabital should not be given with β-tiradol or nalexpidol.",
    "An interaction between cormicyclane and Velotrazine has been suspected.",
]
NAMES = ["Velotrazine", "nalexpidol", "Hembabital", "β-tiradol", "cormicyclane"]


def main() -> None:
    """Train, save and predict."""
    settings = {"max_steps": 60, "learning_rate": 3e-3, "max_length": 96, "precision": "f32", "progress": False}
    with tempfile.TemporaryDirectory() as folder:
        run = biorel.finetune(biorel.load_sample("ddi"), write_encoder(Path(folder) / "encoder"), **settings)
    run.save(FOLDER / "model")
    sentences = []
    for text in SENTENCES:
        starts = {name: text.index(name) for name in NAMES if name in text}
        entities = [{"start": start, "end": start + len(name), "type": "drug"} for name, start in starts.items()]
        sentences.append({"text": text, "entities": sorted(entities, key=lambda entity: entity["start"])})
    table = run.model.predict(sentences).round(6)
    expected = {
        "hash": run.model.hash,
        "sentences": sentences,
        "predictions": json.loads(table.to_json(orient="records")),
    }
    text = json.dumps(expected, ensure_ascii=False, indent=1)
    (FOLDER / "expected.json").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
