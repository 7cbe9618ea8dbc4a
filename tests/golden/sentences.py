"""A hundred sentences in the manner of biomedical abstracts, made from a small grammar: no text of any corpus is used.

Lengths run from 3 to 120 words, and there are hyphens, brackets, Greek letters, numbers, anonymised entities
(`@DRUG$`) and long words that WordPiece must break up.
"""

import random
from pathlib import Path


def words(text: str) -> list[str]:
    """A word list written as plain text."""
    return text.split()


PROTEINS = words("""IL-2 TNF-α NF-κB p53 MDM2 RAD51 BRCA2 Grb2 SOS1 β-catenin calmodulin ubiquitin kinesin-5 actin
acetyltransferase Smad4 TGF-β1 cyclin-D1 CDK4 @PROTEIN$ @GENE$ topoisomerase phosphofructokinase""")
DRUGS = words("""warfarin aspirin ketoconazole rifampicin metformin digoxin @DRUG$ @CHEMICAL$ cyclosporine amiodarone
5-fluorouracil S-adenosylmethionine clopidogrel midazolam tamoxifen (R)-fluoxetine""")
VERBS = words("""inhibits activates phosphorylates binds stabilises displaces potentiates attenuates induces represses
downregulates interacts-with recruits cleaves""")
ADVERBS = words("strongly weakly directly indirectly reversibly selectively synergistically apparently not")
PLACES = [
    "in hepatocytes",
    "in HeLa cells",
    "in the rat striatum",
    "at 37 °C",
    "in vitro",
    "in patients with renal impairment",
    "in the presence of 1.5 mM Ca2+",
    "after 48 h of starvation",
    "within the nucleolus",
]
EVIDENCE = [
    "(p < 0.05)",
    "(n = 12)",
    "as judged by co-immunoprecipitation",
    "with an IC50 of 3.2 nM",
    "[see Fig. 2B]",
    "by 45 %",
    "in a dose-dependent manner",
    "according to yeast two-hybrid screening",
]
LINKS = [
    ", whereas",
    ", which suggests that",
    "; moreover,",
    "and",
    "but",
    ", because",
    "- unexpectedly -",
    ", and therefore",
]
OPENINGS = ["We show that", "These data indicate that", "Surprisingly,", "It is unknown whether", "Here,", "", ""]


def clause(draw: random.Random) -> str:
    subject = draw.choice(PROTEINS + DRUGS)
    if draw.random() < 0.3:
        subject = f"the {subject}-{draw.choice(PROTEINS)} complex"
    parts = [subject]
    if draw.random() < 0.5:
        parts.append(draw.choice(ADVERBS))
    parts += [draw.choice(VERBS), draw.choice(PROTEINS + DRUGS)]
    if draw.random() < 0.6:
        parts.append(draw.choice(PLACES))
    if draw.random() < 0.5:
        parts.append(draw.choice(EVIDENCE))
    return " ".join(parts)


def sentence(draw: random.Random, words: int) -> str:
    """A sentence of exactly `words` space-separated words; a longer draft is cut."""
    text = f"{draw.choice(OPENINGS) if words > 8 else ''} {clause(draw)}"
    while len(text.split()) < words:
        text += f" {draw.choice(LINKS)} {clause(draw)}"
    return " ".join(text.split()[:words]).rstrip(",;") + "."


def write_sentences(path: Path, count: int = 100) -> list[str]:
    """Write one sentence a line and give them back. Lengths: mostly 3 to 28 words, every tenth one 50 to 120."""
    draw = random.Random(20)
    lengths = [3, 120] + [draw.randint(50, 120) if i % 10 == 0 else draw.randint(3, 28) for i in range(count - 2)]
    sentences = [sentence(draw, words) for words in lengths]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(sentences) + "\n", encoding="utf-8")
    return sentences
