"""Write the synthetic sample corpus that ships with biorel.

Every sentence is made up from the templates below, and so is every name: no drug, protein or chemical here exists, and
nothing here says anything about medicine. The point is to have files in the three native formats (unified PPI XML,
DDI-2013 XML, ChemProt tables) that anyone may copy, with relations that are decided by trigger words and syntax, so
that a short fine-tune can learn them: several candidate pairs in one sentence, negations, contrasts, coordinations,
nested and discontinuous mentions, and letters outside ASCII.

Run ``python tools/make_sample.py`` to write the files again; the output depends on nothing but this file,
which is therefore long.
``--check`` compares instead of writing.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import quoteattr

XML = '<?xml version="1.0" encoding="UTF-8"?>'
NOTICE = "Synthetic sample written for biorel: invented names, generated sentences, no medical content."
FOLDER = Path(__file__).parent.parent / "python" / "biorel" / "data" / "sample"


class Dice:
    """SplitMix64: a few lines that give the same numbers on every version of Python."""

    def __init__(self, seed: int) -> None:
        self.state = seed
        self.written: set[str] = set()

    def below(self, n: int) -> int:
        """A number from 0 to n - 1."""
        self.state = (self.state + 0x9E3779B97F4A7C15) % 2**64
        z = self.state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return (z ^ (z >> 31)) % n

    def pick(self, items: list[str]) -> str:
        """One of the items."""
        return items[self.below(len(items))]


# --- Names -----------------------------------------------------------------------------------------------------------

DRUG_STEMS = "velo cormi nalex tirado bruva ozemi parlu quinto sembra deltiva fyxo hemba".split()
DRUG_ENDS = "trazine dopril pidol zumide loxane cyclane bital mivudol".split()
DRUG_GROUPS = ["velorin blockers", "sembrane inhibitors", "cortivane diuretics", "zolamide sedatives"]
GENE_STEMS = "KRV Zef TQX Lum MZP Orv BXL Dan PWR Sylk HQF Cerv".split()
CHEMICAL_STEMS = "azo meth trifluo benz carbo nitro hydro pyrro thio cyclo".split()
CHEMICAL_ENDS = "lamide xerone quinate velin tinib zoside fenol mycol".split()


def drug(dice: Dice) -> str:
    """A drug that does not exist; one in twelve starts with a Greek letter, one in ten is a group."""
    if dice.below(10) == 0:
        return dice.pick(DRUG_GROUPS)
    name = dice.pick(DRUG_STEMS) + dice.pick(DRUG_ENDS)
    return "β-" + name if dice.below(12) == 0 else name


def gene(dice: Dice) -> str:
    """A protein that does not exist."""
    name = dice.pick(GENE_STEMS)
    if name.isupper():
        return name + ["", "-", "-α"][dice.below(3)] + str(1 + dice.below(9))
    return f"{name}in-{1 + dice.below(9)}"


def chemical(dice: Dice) -> str:
    """A chemical that does not exist."""
    name = dice.pick(CHEMICAL_STEMS) + dice.pick(CHEMICAL_ENDS)
    return f"{1 + dice.below(4)},{5 + dice.below(3)}-{name}" if dice.below(8) == 0 else name


# --- Templates -------------------------------------------------------------------------------------------------------
#
# `{A}` is a mention; `{A:words}` is a mention, or one segment of it, with the given words; `{AB:words}` belongs to two.
# `<word|word>` is a choice. After the bar: the gold label of each pair that has one; all other pairs are negative.

PK = "<plasma concentration|serum level|clearance|absorption|bioavailability|elimination half-life|plasma exposure>"
CHANGES = "<increases|decreases|reduces|raises|lowers|doubles>"
CHANGED = "<increased|decreased|reduced|raised|lowered|doubled>"
ACTION = "<sedative|hypotensive|anticoagulant|diuretic|analgesic|muscle-relaxing>"

DDI = [
    f"{{A}} {CHANGES} the {PK} of {{B}}|AB=mechanism",
    f"The {PK} of {{B}} was {CHANGED} by {{A}}|AB=mechanism",
    f"<Administration|Repeated dosing> of {{A}} {CHANGED} the {PK} of {{B}} <by 40 %|two-fold|slowly>|AB=mechanism",
    "{A} <inhibits|induces|slows> the hepatic metabolism of {B}|AB=mechanism",
    f"{{A}} <enhances|potentiates|strengthens|antagonizes> the {ACTION} effect of {{B}}|AB=effect",
    f"The {ACTION} effect of {{A}} may be <enhanced|potentiated|antagonized> by {{B}}|AB=effect",
    "The combination of {A} and {B} <caused|produced> <toxicity|drowsiness|bleeding|hypotension>|AB=effect",
    "<Bleeding|Drowsiness|Hypotension> has been reported in patients treated with {A} and {B} together|AB=effect",
    "{A} should <not|never> be <given|taken|used> together with {B}|AB=advise",
    "Caution is <advised|recommended> when {A} is <given|prescribed> with {B}|AB=advise",
    "Patients who take {A} should <avoid|not receive> {B}|AB=advise",
    "The dose of {B} should be <halved|adjusted|reduced> during treatment with {A}|AB=advise",
    "{A} <interacts|may interact|is known to interact> with {B}|AB=int",
    "An interaction between {A} and {B} has been <described|reported|suspected>|AB=int",
    "<Clinically relevant|Possible> interactions of {A} with {B} are listed|AB=int",
    # Negations and mere mentions.
    f"{{A}} did not change the {PK} of {{B}}|",
    f"The {PK} of {{A}} was not affected by {{B}}|",
    "No interaction between {A} and {B} was <observed|found>|",
    f"{{A}} had no influence on the {ACTION} effect of {{B}}|",
    "Patients were randomised to {A} or {B}|",
    "{A} and {B} are both <excreted by the kidney|taken once daily|available as tablets>|",
    "Unlike {A}, {B} is <given once daily|stored at room temperature|well tolerated>|",
    "{A} was compared with {B} in 60 <volunteers|outpatients>|",
    # Several pairs in one sentence: only the syntax distinguishes them.
    f"{{A}}, but not {{B}}, {CHANGES} the {PK} of {{C}}|AC=mechanism",
    f"{{A}} {CHANGES} the {PK} of {{B}} and {{C}}|AB=mechanism AC=mechanism",
    f"{{A}} potentiates the {ACTION} effect of {{B}}, whereas {{C}} does not|AB=effect",
    "{A} should not be combined with {B} or {C}|AB=advise AC=advise",
    "Drugs that interact with {A} include {B} and {C}|AB=int AC=int",
    f"{{A}} was started after {{B}} had {CHANGED} the {PK} of {{C}}|BC=mechanism",
    # A discontinuous mention next to a continuous one.
    "{C} should not be used with {A:peripheral} or {B:central} {AB:velorin blockers}|AC=advise BC=advise",
]

PPI = [
    "{A} <binds|binds directly|associates> <with|to> {B}|AB=True",
    "{A} <interacts|forms a complex|co-precipitates> with {B} in <yeast|HQ7 cells|vitro>|AB=True",
    "{A} <phosphorylates|activates|ubiquitinates|recruits> {B}|AB=True",
    "The <interaction|association|complex> <between|of> {A} and {B} was <confirmed|detected> by pull-down|AB=True",
    "{B} is a <ligand|substrate|binding partner> of {A}|AB=True",
    "<Binding|Recruitment> of {A} to {B} requires the <SH7|central|acidic> domain|AB=True",
    "{A} does not <bind|interact with|phosphorylate> {B}|",
    "No <interaction|binding> between {A} and {B} was <detected|seen>|",
    "{A} and {B} are <expressed in the liver|located on one chromosome|of similar size>|",
    "The sequence of {A} is 40 % identical to that of {B}|",
    "Levels of {A} and {B} were measured by <blotting|immunoassay>|",
    "Neither {A} nor {B} was <found in the nucleus|needed for growth>|",
    "{A} binds {B} but not {C}|AB=True",
    "{A}, unlike {B}, <interacts with|phosphorylates|activates> {C}|AC=True",
    "{A} <interacts with|recruits|binds> {B} and {C}|AB=True AC=True",
    "{A} was expressed in cells in which {B} activates {C}|BC=True",
    # A mention inside another.
    "{A} binds the {B:Zefin-4 {C:KRV2} receptor}|AB=True AC=True",
]

CHEMPROT = [
    "{A} <activates|stimulates|induces|upregulates> {B}|AB=CPR:3",
    "{B} activity was <stimulated|increased|enhanced> by {A}|AB=CPR:3",
    "{A} <inhibits|suppresses|blocks|downregulates> {B}|AB=CPR:4",
    "{A} is a <potent|selective|competitive> inhibitor of {B}|AB=CPR:4",
    "<Inhibition|Suppression> of {B} by {A} was dose-dependent|AB=CPR:4",
    "{A} is a <full|partial|selective> agonist of {B}|AB=CPR:5",
    "{A} acts as an agonist at the {B} receptor|AB=CPR:5",
    "{A} is <an|a selective|a competitive> antagonist of {B}|AB=CPR:6",
    "The antagonist {A} was used against {B}|AB=CPR:6",
    "{B} <metabolizes|converts|hydrolyses> {A}|AB=CPR:9",
    "{A} is a <substrate|product> of {B}|AB=CPR:9",
    "{A} did not <inhibit|activate|affect> {B}|",
    "{A} and {B} were measured in plasma|",
    "Cells that express {B} were washed with {A}|",
    "{A}, but not {C}, <inhibits|activates> {B}|AB=*",
    "{A} is an agonist of {B} and inhibits {D}|AB=CPR:5 AD=CPR:4",
]
CHEMPROT_RELATION = {
    "CPR:3": "ACTIVATOR",
    "CPR:4": "INHIBITOR",
    "CPR:5": "AGONIST",
    "CPR:6": "ANTAGONIST",
    "CPR:9": "SUBSTRATE",
}

OPENINGS = [*[""] * 4, "In this <study|series>, ", "<As expected|Briefly>, ", "At <low|high> doses, "]
CLOSINGS = [
    *[""] * 4,
    " <in 24 samples|at steady state|in all groups>",
    " (<p = 0.01|n = 36>)",
    " <after one week|overall>",
]


# --- Rendering -------------------------------------------------------------------------------------------------------


@dataclass
class Mention:
    """A mention with its segments (characters, end-exclusive)."""

    key: str
    segments: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class Sample:
    """One generated sentence: its text, its mentions in order, and the labels of its related pairs."""

    text: str
    mentions: list[Mention]
    labels: dict[frozenset[str], str]


def choose(template: str, dice: Dice) -> tuple[str, list[str]]:
    """Resolve every `<a|b>`; also return what was chosen."""
    chosen: list[str] = []

    def one(match: re.Match[str]) -> str:
        chosen.append(dice.pick(match.group(1).split("|")))
        return chosen[-1]

    return re.sub(r"<([^<>]*)>", one, template), chosen


def render(template: str, names: dict[str, str], dice: Dice) -> Sample:
    """Fill in a template and record the position of each mention."""
    body, _, gold = template.rpartition("|")
    body, chosen = choose(body, dice)
    opening = choose(dice.pick(OPENINGS), dice)[0]
    if opening and not body.startswith("{"):
        body = body[0].lower() + body[1:]
    source = opening + body + choose(dice.pick(CLOSINGS), dice)[0] + "."
    found: dict[str, Mention] = {}
    text = ""
    open_mentions: list[tuple[str, int]] = []
    position = 0
    while position < len(source):
        start = re.compile(r"\{([A-D]+)([:}])").match(source, position)
        if start and start.group(2) == "}":
            key = start.group(1)
            found.setdefault(key, Mention(key)).segments.append((len(text), len(text) + len(names[key])))
            text += names[key]
            position = start.end()
        elif start:
            open_mentions.append((start.group(1), len(text)))
            position = start.end()
        elif source[position] == "}":
            keys, begin = open_mentions.pop()
            for key in keys:
                found.setdefault(key, Mention(key)).segments.append((begin, len(text)))
            position += 1
        else:
            text += source[position]
            position += 1
    # Only a plain lower-case letter is raised: the length, and with it every offset, stays as it is.
    text = text[0].upper() + text[1:] if text[0].isascii() else text
    for mention in found.values():
        mention.segments = merge(mention.segments, text)
    labels: dict[frozenset[str], str] = {}
    for item in gold.split():
        pair, label = item.split("=")
        if label == "*":
            label = "CPR:4" if "inhibits" in chosen else "CPR:3"
        labels[frozenset(pair)] = label
    mentions = sorted(found.values(), key=lambda mention: (mention.segments[0], -mention.segments[-1][1]))
    return Sample(text, mentions, labels)


def compose(template: str, make: dict[str, Callable[[Dice], str]], dice: Dice) -> Sample:
    """Fill a template in with fresh names, until the sentence is one that this corpus does not have yet."""
    while True:
        sample = render(template, distinct(make, dice), dice)
        if sample.text not in dice.written:
            dice.written.add(sample.text)
            return sample


def merge(segments: list[tuple[int, int]], text: str) -> list[tuple[int, int]]:
    """Join segments with only white space between them: `central` + `velorin blockers` is one stretch."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(segments):
        if merged and not text[merged[-1][1] : start].strip():
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged


def surface(sample: Sample, mention: Mention) -> str:
    """A mention's text, segments joined by a space."""
    return " ".join(sample.text[start:end] for start, end in mention.segments)


def distinct(make: dict[str, Callable[[Dice], str]], dice: Dice) -> dict[str, str]:
    """One name per key, no name twice and none inside another."""
    names: dict[str, str] = {}
    for key, maker in make.items():
        while True:
            name = maker(dice)
            if all(name not in other and other not in name for other in names.values()):
                names[key] = name
                break
    return names


def balanced(templates: list[str], count: int, dice: Dice) -> list[str]:
    """`count` templates, each as often as the others, in an order of their own."""
    pool = [templates[i % len(templates)] for i in range(count)]
    for i in range(len(pool) - 1, 0, -1):
        j = dice.below(i + 1)
        pool[i], pool[j] = pool[j], pool[i]
    return pool


# --- The three formats -----------------------------------------------------------------------------------------------


def ddi_document(number: int, templates: list[str], dice: Dice) -> str:
    """One file of DDI-2013's form: end-inclusive offsets, `a-b;c-d` for discontinuous mentions."""
    name = f"DDI-Synthetic.d{number}"
    lines = [XML, f"<!-- {NOTICE} -->", f'<document id="{name}">']
    for index, template in enumerate(templates):
        sample = compose(template, dict.fromkeys("ABC", drug), dice)
        sentence = f"{name}.s{index}"
        lines.append(f"    <sentence id={quoteattr(sentence)} text={quoteattr(sample.text)}>")
        for e, mention in enumerate(sample.mentions):
            offsets = ";".join(f"{start}-{end - 1}" for start, end in mention.segments)
            text = surface(sample, mention)
            kind = "group" if text.endswith("s") and " " in text else "drug"
            lines.append(f'        <entity id="{sentence}.e{e}" charOffset="{offsets}"')
            lines.append(f'            type="{kind}" text={quoteattr(text)}/>')
        pair = 0
        for i, first in enumerate(sample.mentions):
            for j in range(i + 1, len(sample.mentions)):
                label = sample.labels.get(frozenset(first.key + sample.mentions[j].key))
                gold = f'ddi="true" type="{label}"' if label else 'ddi="false"'
                lines.append(f'        <pair id="{sentence}.p{pair}" e1="{sentence}.e{i}"')
                lines.append(f'            e2="{sentence}.e{j}" {gold}/>')
                pair += 1
        lines.append("    </sentence>")
    return "\n".join([*lines, "</document>", ""])


def ppi_file(part: str, first: int, documents: list[list[str]], dice: Dice) -> str:
    """One file of the unified PPI form: end-exclusive offsets, every candidate pair listed."""
    lines = [XML, f"<!-- {NOTICE} -->", '<corpus source="Synthetic-PPI">']
    for number, templates in enumerate(documents, start=first):
        name = f"PPI-Synthetic.d{number}"
        lines.append(f'  <document id="{name}" origId="synthetic-{number}" set="{part}">')
        offset = 0
        for index, template in enumerate(templates):
            sample = compose(template, dict.fromkeys("ABC", gene), dice)
            sentence = f"{name}.s{index}"
            where = f"{offset}-{offset + len(sample.text)}"
            offset += len(sample.text) + 1
            text = quoteattr(sample.text)
            lines.append(f'    <sentence charOffset="{where}" id="{sentence}" seqId="s{index}" text={text}>')
            for e, mention in enumerate(sample.mentions):
                offsets = ",".join(f"{start}-{end}" for start, end in mention.segments)
                text = quoteattr(surface(sample, mention))
                ident = f"{sentence}.e{e}"
                lines.append(
                    f'      <entity charOffset="{offsets}" id="{ident}" seqId="e{e}" text={text} type="protein"/>'
                )
            pair = 0
            for i, one in enumerate(sample.mentions):
                for j in range(i + 1, len(sample.mentions)):
                    gold = frozenset(one.key + sample.mentions[j].key) in sample.labels
                    ends = f'e1="{sentence}.e{i}" e2="{sentence}.e{j}"'
                    lines.append(f'      <pair {ends} id="{sentence}.p{pair}" interaction="{gold}"/>')
                    pair += 1
            lines.append("    </sentence>")
        lines.append("  </document>")
    return "\n".join([*lines, "</corpus>", ""])


def chemprot_tables(first: int, documents: list[list[str]], dice: Dice) -> dict[str, str]:
    """The four tables of one ChemProt split; offsets index "title + one space + abstract"."""
    tables: dict[str, list[str]] = {"abstracts": [], "entities": [], "gold_standard": [], "relations": []}
    for number, templates in enumerate(documents, start=first):
        # The original has PubMed identifiers here; these numbers are beyond any of them.
        document = str(990_000_000 + number)
        title = f"Synthetic abstract {number}, written for biorel."
        abstract = ""
        rows: list[tuple[str, int, int, str]] = []
        gold: list[tuple[str, int, int]] = []
        for template in templates:
            sample = compose(template, {"A": chemical, "C": chemical, "B": gene, "D": gene}, dice)
            abstract += " " if abstract else ""
            base = len(title) + 1 + len(abstract)
            index = {}
            for mention in sample.mentions:
                start, end = mention.segments[0]
                kind = "CHEMICAL" if mention.key in "AC" else ("GENE-Y" if dice.below(3) else "GENE-N")
                index[mention.key] = len(rows)
                rows.append((kind, base + start, base + end, sample.text[start:end]))
            for pair, label in sample.labels.items():
                one, two = sorted(pair)  # A and C are chemicals; they come before B and D in the template's own order
                gold.append((label, index[one], index[two]))
            abstract += sample.text
        # As in the original: all chemicals of a document are numbered before its genes.
        order = sorted(range(len(rows)), key=lambda row: (rows[row][0] != "CHEMICAL", rows[row][1]))
        term = {row: f"T{rank}" for rank, row in enumerate(order, start=1)}
        tables["abstracts"].append(f"{document}\t{title}\t{abstract}")
        for row in order:
            kind, start, end, text = rows[row]
            tables["entities"].append(f"{document}\t{term[row]}\t{kind}\t{start}\t{end}\t{text}")
        for label, first_row, second_row in sorted(gold):
            arguments = f"Arg1:{term[first_row]}\tArg2:{term[second_row]}"
            tables["gold_standard"].append(f"{document}\t{label}\t{arguments}")
            tables["relations"].append(f"{document}\t{label}\tY \t{CHEMPROT_RELATION[label]}\t{arguments}")
    return {name: "\n".join(lines) + "\n" for name, lines in tables.items()}


README = f"""# Synthetic sample corpus

{NOTICE}

It lets you try and test biorel without a download. It is not a benchmark: scores on it say nothing about real text.
The files have the three native formats:

- `ppi/`: the unified PPI XML form (AIMed and others), train and test;
- `ddi/`: the folders and the XML of DDIExtraction 2013, train and test;
- `chemprot/`: the tables of BioCreative VI track 5, training, development and test.

All of it is written by `tools/make_sample.py`; licence as for biorel itself (MIT or Apache-2.0).
"""


def documents(templates: list[str], count: int, size: int, dice: Dice) -> list[list[str]]:
    """`count` documents of `size` sentences each."""
    pool = balanced(templates, count * size, dice)
    return [pool[i * size : (i + 1) * size] for i in range(count)]


def build() -> dict[str, str]:
    """Every file of the sample: its path below `sample/`, and its content."""
    files = {"README.md": README}
    dice = Dice(20201216)
    for folder, first, count in [
        ("Train/Synthetic", 0, 28),
        ("Test/Test for DDI Extraction task/Synthetic", 28, 10),
    ]:
        for number, templates in enumerate(documents(DDI, count, 10, dice), start=first):
            files[f"ddi/{folder}/synthetic_{number:02}_ddi.xml"] = ddi_document(number, templates, dice)
    dice = Dice(20201217)
    files["ppi/Synthetic-train.xml"] = ppi_file("train", 0, documents(PPI, 17, 8, dice), dice)
    files["ppi/Synthetic-test.xml"] = ppi_file("test", 17, documents(PPI, 7, 8, dice), dice)
    dice = Dice(20201218)
    for part, suffix, first, count in [("training", "", 0, 24), ("development", "", 24, 6), ("test", "_gs", 30, 8)]:
        folder = f"chemprot/chemprot_{part}{suffix}"
        for name, content in chemprot_tables(first, documents(CHEMPROT, count, 6, dice), dice).items():
            # In the original the gold standard of the test split has no `_gs` of its own.
            ending = "" if name == "gold_standard" else suffix
            files[f"{folder}/chemprot_{part}_{name}{ending}.tsv"] = content
    return files


def main() -> int:
    """Write the files, or with --check report the ones that differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="compare with the files that are there; write nothing")
    arguments = parser.parse_args()
    files = build()
    different = []
    for name, content in files.items():
        path = FOLDER / name
        if arguments.check:
            if not path.is_file() or path.read_bytes() != content.encode():
                different.append(name)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode())
    if arguments.check:
        there = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()}
        different += sorted(there - files.keys())
        print("\n".join(different) if different else f"{len(files)} files are as generated")
    else:
        print(f"{len(files)} files written to {FOLDER}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
