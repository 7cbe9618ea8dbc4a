"""Write one digest file per vocabulary: how transformers' BertTokenizer cuts 10,000 sentences of the real corpora.

The corpora and the vocabularies may not be copied into this project, so what is kept is a short hash per sentence over all
ids and offsets. `tests/tokenizer_golden.rs` takes the same sentences from the same files and compares.

Run once, in an environment of its own:
    pip install transformers==4.57.6 && python make_golden.py CORPORA ENCODERS
Ids and offsets are those of BertTokenizerFast. The ids of the Python implementation (BertTokenizer) must be the same on
every corpus sentence; on the made-up sentences of hard.json the two may differ, as they do for decomposed accents in a
cased model (the Python one composes them first). Every offset is checked by normalising the characters it points to.
"""

import hashlib
import json
import pathlib
import sys
import unicodedata

from transformers import BertTokenizer, BertTokenizerFast

HERE = pathlib.Path(__file__).parent
# name -> (folder of vocab.txt, whether the model is lower-casing)
VOCABULARIES = {
    "biobert": ("biobert-cased", False),
    "bert-base-uncased": ("bert-base-uncased_bluebert", True),
    "scibert": ("scibert-scivocab-uncased", True),
    "pubmedbert": ("pubmedbert-abstract", True),
    "biolinkbert": ("biolinkbert", True),
}
SENTENCES = 10_000
DDI_ROWS = 4_000


def lines(path):
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")


def sentences(corpora):
    """AIMed's sentences, rows of DDI with tags, and ChemProt's abstracts cut at every `. `; each text once."""
    texts = dict.fromkeys(row.split("\t")[-1] for row in lines(corpora / "aimed" / "aimed_pairs.tsv")[1:])
    rows = dict.fromkeys(row.split("\t")[1] for row in lines(corpora / "blue" / "ddi_dev.tsv")[1:])
    texts.update(dict.fromkeys(list(rows)[:DDI_ROWS]))
    for split, suffix in [("training", ""), ("development", ""), ("test_gs", "_gs")]:
        name = f"chemprot_{split.removesuffix('_gs')}_abstracts{suffix}.tsv"
        for row in lines(corpora / "chemprot" / f"chemprot_{split}" / name):
            for field in row.split("\t")[1:]:
                texts.update(dict.fromkeys(field.split(". ")))
    texts.pop("", None)
    return list(texts)[:SENTENCES]


def normalised(text, lower):
    text = "".join(c for c in text if c in "\t\n\r" or (unicodedata.category(c)[0] != "C" and c != "\ufffd"))
    if lower:
        text = unicodedata.normalize("NFD", text)
        text = "".join(c for c in text if unicodedata.category(c) != "Mn").lower()
    return text


def describe(text, fast, lower):
    """`id:start-end` for every piece, without [CLS] and [SEP]."""
    encoding = fast(text, add_special_tokens=False, return_offsets_mapping=True)
    pieces = list(zip(encoding["input_ids"], encoding["offset_mapping"]))
    for id, (start, end) in pieces:
        piece = fast.convert_ids_to_tokens(id).removeprefix("##")
        assert piece in fast.all_special_tokens or normalised(text[start:end], lower) == piece, (
            text,
            piece,
            start,
            end,
        )
    return " ".join(f"{id}:{start}-{end}" for id, (start, end) in pieces)


def main(corpora, encoders):
    corpus = sentences(corpora)
    assert len(corpus) == SENTENCES, len(corpus)
    hard = json.loads((HERE / "hard.json").read_text(encoding="utf-8"))
    for name, (folder, lower) in VOCABULARIES.items():
        vocabulary = str(encoders / "vocab" / folder / "vocab.txt")
        settings = {"vocab_file": vocabulary, "do_lower_case": lower}
        slow, fast = BertTokenizer(**settings), BertTokenizerFast(**settings)
        differ = [text for text in hard + corpus if slow.encode(text) != fast.encode(text)]
        assert set(differ) <= set(hard), [text for text in differ if text not in hard][:5]
        described = [describe(text, fast, lower) for text in hard + corpus]
        every = hashlib.sha256("\n".join(described).encode()).hexdigest()
        short = [hashlib.sha256(line.encode()).hexdigest()[:4] for line in described]
        rows = ["".join(short[start : start + 25]) for start in range(0, len(short), 25)]
        (HERE / f"{name}.txt").write_text("\n".join([f"{len(short)} {every}", *rows]) + "\n")
        print(name, len(short), every, "implementations differ on:", differ)


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:]))
