"""What the paper printed (Su & Vijay-Shanker, BIBM 2020), as data.

Figures are percentages: precision, recall, F1. The encoder is BioBERT v1.1 unless another one is named.
"""

from __future__ import annotations

from typing import NamedTuple


class Figures(NamedTuple):
    """Precision, recall and F1 in percent."""

    precision: float
    recall: float
    f1: float


# The paper's name of each corpus's task.
TASKS = {"aimed": "PPI", "ddi": "DDI", "chemprot": "ChemProt"}

# Our name of each head: the paper's name of the model.
MODELS = {
    "cls": "BioBERT",
    "lstm": "+LSTM_LL",
    "attention": "+Att_LL",
    "lstm-no-cls": "+LSTM_LL*",
    "attention-no-cls": "+Att_LL*",
    "lstm-all-cls": "+LSTM_CLS",
    "attention-all-cls": "+Att_CLS",
}
# The main results, and the variants of the head.
TABLE_3 = ("cls", "lstm", "attention")
TABLE_4 = ("cls", "lstm-no-cls", "attention-no-cls", "lstm-all-cls", "attention-all-cls")

STATE_OF_THE_ART = {
    "aimed": Figures(79.0, 76.8, 77.6),
    "ddi": Figures(79.3, 80.5, 79.9),
    "chemprot": Figures(77.0, 75.9, 76.5),
}
RESULTS = {
    "cls": {
        "aimed": Figures(79.0, 83.3, 81.0),
        "ddi": Figures(77.4, 79.4, 78.4),
        "chemprot": Figures(74.6, 76.8, 75.7),
    },
    "lstm": {
        "aimed": Figures(80.2, 84.0, 82.0),
        "ddi": Figures(79.4, 78.0, 78.7),
        "chemprot": Figures(75.7, 77.4, 76.5),
    },
    "attention": {
        "aimed": Figures(80.7, 84.4, 82.5),
        "ddi": Figures(81.3, 80.1, 80.7),
        "chemprot": Figures(76.5, 77.1, 76.8),
    },
    "lstm-no-cls": {
        "aimed": Figures(79.6, 82.0, 80.8),
        "ddi": Figures(79.7, 76.5, 78.1),
        "chemprot": Figures(75.7, 74.5, 75.1),
    },
    "attention-no-cls": {
        "aimed": Figures(82.3, 83.5, 82.8),
        "ddi": Figures(79.7, 77.6, 78.6),
        "chemprot": Figures(76.4, 74.5, 75.4),
    },
    "lstm-all-cls": {
        "aimed": Figures(79.0, 82.3, 80.6),
        "ddi": Figures(77.6, 80.4, 79.0),
        "chemprot": Figures(73.8, 76.4, 75.1),
    },
    "attention-all-cls": {
        "aimed": Figures(79.9, 83.6, 81.7),
        "ddi": Figures(78.6, 77.8, 78.2),
        "chemprot": Figures(73.2, 75.3, 74.2),
    },
}
# Table VI: other encoders, [CLS] alone.
ENCODERS = {
    "biobert": RESULTS["cls"],
    "scibert": {
        "aimed": Figures(78.4, 79.5, 78.8),
        "ddi": Figures(80.1, 78.1, 79.1),
        "chemprot": Figures(74.3, 73.2, 74.0),
    },
    "bluebert": {
        "aimed": Figures(69.3, 75.0, 71.9),
        "ddi": Figures(77.7, 75.4, 76.5),
        "chemprot": Figures(70.8, 64.8, 67.7),
    },
}

# Table I: pairs of each split, with the two rows corrected that are swapped in print; for PPI (AIMed) only the total.
PAIRS = {
    "aimed": {"all": 5_834},
    "ddi": {"train": 18_779, "dev": 7_244, "test": 5_761},
    "chemprot": {"train": 19_460, "dev": 11_820, "test": 16_943},
}

# Table V: stems by mean attention, the highest first.
STEMS = {
    "aimed": "activ complex associ interact human protein bind domain specifi receptor".split(),
    "ddi": "concomitantli combin concomit increas use concurr decreas inhibit receiv administ".split(),
    "chemprot": "phosphoryl attenu stimul deriv regul novel metabol reduc induc inhibit".split(),
}
# Fig. 4: the stems compared between related and unrelated pairs.
COMPARED = {"aimed": ["associ", "interact"], "ddi": ["decreas", "inhibit"], "chemprot": ["stimul", "regul"]}

# Porter stems of words that state a relation: those that the corpora's annotation guidelines use to define their
# relations, and derivations of these. Compiled for this project before looking at any model; the paper has no list.
TRIGGERS = {
    "aimed": frozenset(
        """interact bind bound associ complex heterodim homodim dimer form recruit phosphoryl activ inhibit regul
        coprecipit coimmunoprecipit immunoprecipit precipit couple coupl recogn stabil modul mediat block receptor
        ligand cleav stimul induc link contact attach""".split()
    ),
    "ddi": frozenset(
        """increas decreas reduc elev enhanc potenti inhibit induc metabol clearanc concentr level auc bioavail absorpt
        elimin excret antagon synergist addit effect affect interact interfer alter avoid caution contraind recommend
        coadminist concomit concomitantli concurr combin togeth administ monitor adjust use receiv prolong displac
        accumul""".split()
    ),
    "chemprot": frozenset(
        """activ agonist antagonist inhibit inhibitor block blocker induc induct inducer stimul suppress reduc decreas
        increas enhanc upregul downregul regul modul express substrat metabol product convert oxid phosphoryl attenu
        bind affin potent select releas""".split()
    ),
}
