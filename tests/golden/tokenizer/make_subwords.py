"""Write small byte-level BPE and unigram tokenizers, and how transformers cuts texts with them.

    python tests/golden/tokenizer/make_subwords.py CORPORA

Needs the packages of benchmarks/requirements.txt. The tokenizers are trained on the 10,000 corpus sentences of
make_golden.py: `roberta` (vocab.json and merges.txt), `modernbert` (BPE with a normalizer that changes lengths, and
special tokens of BERT) and `unigram` (as XLM-RoBERTa's). `expected.json` has for each the hashes of all pieces and
offsets of ten texts at a time, of the corpus sentences, and of hard.json with random texts that names determine.
Offsets are without the white space around them, which transformers' tokenizers treat differently.
"""

import hashlib
import json
import pathlib
import sys

from make_golden import HERE, sentences
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

sys.path.append(str(HERE.parent))
from noise import uniform

OF_ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
OF_BERT = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
ROLES = ["cls_token", "pad_token", "sep_token", "unk_token", "mask_token"]
PIECES, RANDOM_TEXTS = 900, 6_000
# Unicode's White_Space, as Rust has it; Python's isspace() has more.
SPACE = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))


def random_text(number: int) -> str:
    """1 to 40 characters: ASCII, white space, and all of Unicode."""
    values = uniform(f"text {number}", 81)
    return "".join(
        random_character(kind, value)
        for kind, value in zip(values[1:41], values[41:], strict=True)
    )[: 1 + int(values[0] * 40)]  # fmt: skip


def random_character(kind: float, value: float) -> str:
    if kind < 0.1:
        return SPACE[int(value * len(SPACE))]
    first, size = next(
        bounds
        for below, bounds in [
            (0.5, (0x20, 0x5F)),
            (0.75, (0xA0, 0x2F60)),
            (0.9, (0x3000, 0xD000)),
            (1.0, (0, 0x110000)),
        ]
        if kind < below
    )
    code = first + int(value * size)
    return "x" if 0xD800 <= code < 0xE000 else chr(code)


def roberta(corpus: list[str], folder: pathlib.Path) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        corpus, trainers.BpeTrainer(vocab_size=PIECES, special_tokens=OF_ROBERTA, initial_alphabet=alphabet)
    )
    tokenizer.model.save(str(folder))
    # Without [CLS] and other names: the vocabulary tells them.
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "RobertaTokenizer"}) + "\n")


def modernbert(corpus: list[str], folder: pathlib.Path) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=PIECES, initial_alphabet=alphabet))
    # Special tokens follow the vocabulary, and runs of spaces are tokens of their own.
    tokenizer.add_tokens([AddedToken(" " * size, normalized=False) for size in (4, 3, 2)])
    tokenizer.add_special_tokens([AddedToken(name, lstrip=name == "[MASK]") for name in OF_BERT])
    finish(tokenizer, folder, OF_BERT)


def unigram(corpus: list[str], folder: pathlib.Path) -> None:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(" {2,}", " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(
        corpus, trainers.UnigramTrainer(vocab_size=PIECES, special_tokens=OF_ROBERTA, unk_token="<unk>")
    )
    finish(tokenizer, folder, OF_ROBERTA)


def finish(tokenizer: Tokenizer, folder: pathlib.Path, names: list[str]) -> None:
    cls, sep = (next(name for name in names if name in pair) for pair in (("[CLS]", "<s>"), ("[SEP]", "</s>")))
    special = [(name, tokenizer.token_to_id(name)) for name in (cls, sep)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{cls} $A {sep}", special_tokens=special)
    (folder / "tokenizer.json").write_text(json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False) + "\n")


def opened(folder: pathlib.Path):
    if (folder / "tokenizer.json").exists():
        return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    return AutoTokenizer.from_pretrained(folder)


def describe(text: str, tokenizer) -> str:
    """`id:start-end` for every piece, without [CLS] and [SEP]."""
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    parts = []
    for piece, (start, end) in zip(encoding["input_ids"], encoding["offset_mapping"], strict=True):
        inside = text[start:end]
        first = end - len(inside.lstrip(SPACE))
        last = first + len(inside.strip(SPACE))
        # A space before the first word that is not in the text, to which transformers gives the word's first character.
        if tokenizer.convert_ids_to_tokens(piece) == "\u2581" and not inside.strip(SPACE).startswith("\u2581"):
            last = first
        parts.append(f"{piece}:{first}-{last}")
    return " ".join(parts)


def hashes(texts: list[str], tokenizer) -> str:
    described = [describe(text, tokenizer) for text in texts]
    tens = ["\n".join(described[start : start + 10]) for start in range(0, len(texts), 10)]
    return "".join(hashlib.sha256(ten.encode()).hexdigest()[:6] for ten in tens)


def main(corpora: pathlib.Path) -> None:
    corpus = sentences(corpora)
    texts = json.loads((HERE / "hard.json").read_text(encoding="utf-8"))
    texts += [random_text(number) for number in range(RANDOM_TEXTS)]
    expected = {}
    for train in (roberta, modernbert, unigram):
        folder = HERE / "subwords" / train.__name__
        folder.mkdir(parents=True, exist_ok=True)
        train(corpus, folder)
        tokenizer = opened(folder)
        expected[train.__name__] = {"random": hashes(texts, tokenizer), "corpus": hashes(corpus, tokenizer)}
        print(
            train.__name__, type(tokenizer).__name__, len(tokenizer), tokenizer.tokenize("IL-2 binds p53, β-catenin.")
        )
    (HERE / "subwords" / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
