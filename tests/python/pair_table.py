"""A small table of pairs whose entities are strings."""

from __future__ import annotations

import pandas as pd

COLUMNS = {"text": "sentence", "entity1": "drug_a", "entity2": "drug_b"}
ROWS = [
    ("Aspirin enhances warfarin.", "aspirin", "Warfarin", "effect"),
    ("No tie of aspirin to naïve β-warfarin.", "aspirin", "β-warfarin", "none"),
    ("Warfarin, but not IL-2R, enhances IL-2.", "IL-2", "Warfarin", "effect"),
    ("Aspirin was given, and warfarin.", "Aspirin", "warfarin", "none"),
]
TABLE = pd.DataFrame(ROWS, columns=["sentence", "drug_a", "drug_b", "label"])
