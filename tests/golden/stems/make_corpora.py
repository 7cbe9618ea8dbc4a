"""Write corpora.json: a digest of NLTK's stems of every distinct word of AIMed, DDI-2013 and ChemProt.

The corpora may not be copied into this project. So the file has, for each first letter, the number of distinct words
and a hash of all of them with their stems. A word is a run of ASCII letters and digits and of non-ASCII characters, in
lower case, without surrounding white space. The Rust test `tests/stems.rs` reads the words from the same files and
compares.

Run once, in its own environment: `pip install nltk==3.10.4 && python make_corpora.py CORPORA`.
"""

import csv
import hashlib
import json
import pathlib
import re
import sys
import zipfile
from collections import defaultdict
from xml.etree import ElementTree

from nltk.stem.porter import PorterStemmer


def texts(corpora: pathlib.Path):
    with open(corpora / "aimed" / "aimed_pairs.tsv", encoding="utf-8", newline="") as file:
        yield from (row["text"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    with zipfile.ZipFile(corpora / "ddi" / "DDICorpus-2013.zip") as archive:
        for name in archive.namelist():
            if name.endswith(".xml") and ("/Train/" in name or "DDI Extraction task" in name):
                root = ElementTree.fromstring(archive.read(name))
                yield from (sentence.get("text") for sentence in root.iter("sentence"))
    for path in sorted(corpora.glob("chemprot/*/*abstracts*.tsv")):
        for line in path.read_text(encoding="utf-8").split("\n"):
            if line:
                _, title, abstract = line.split("\t")
                yield f"{title} {abstract}"


def main():
    corpora = pathlib.Path(sys.argv[1])
    words = set()
    for text in texts(corpora):
        words.update(word.strip() for word in re.findall(r"[a-z0-9\u0080-\U0010ffff]+", text.lower()))
    words.discard("")
    stemmer = PorterStemmer()
    buckets = defaultdict(list)
    for word in sorted(words):
        buckets[word[0] if word[0].isascii() else "other"].append(word)
    golden = {}
    for first, members in sorted(buckets.items()):
        lines = "".join(f"{word}\t{stemmer.stem(word)}\n" for word in members)
        golden[first] = {"words": len(members), "digest": hashlib.sha256(lines.encode()).hexdigest()[:16]}
    path = pathlib.Path(__file__).with_name("corpora.json")
    path.write_text(json.dumps(golden, indent=0) + "\n", encoding="utf-8")
    print(len(words), "words,", len(buckets), "digests")


if __name__ == "__main__":
    main()
