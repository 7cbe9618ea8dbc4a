//! The vocabularies of the published models on 10,000 sentences of the real corpora, compared with
//! transformers' `BertTokenizer`: all ids and offsets (`tests/golden/tokenizer/make_golden.py`).
//! Needs `BIOREL_CORPORA` and `BIOREL_ENCODERS`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use biorel::encode::{Casing, Tokenizer};
use sha2::{Digest, Sha256};

/// Name of the golden file, folder of the vocabulary, casing, ids of [UNK], [CLS] and [SEP], pieces
/// of `acetyltransferase`.
const VOCABULARIES: [(&str, &str, Casing, [u32; 3], usize); 5] = [
    ("biobert", "biobert-cased", Casing::Cased, [100, 101, 102], 7),
    ("bert-base-uncased", "bert-base-uncased_bluebert", Casing::Uncased, [100, 101, 102], 7),
    ("scibert", "scibert-scivocab-uncased", Casing::Uncased, [101, 102, 103], 2),
    ("pubmedbert", "pubmedbert-abstract", Casing::Uncased, [1, 2, 3], 1),
    ("biolinkbert", "biolinkbert", Casing::Uncased, [1, 2, 3], 1),
];

/// The folder that an environment variable names; `None`, with a message, without it.
fn data(variable: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(variable).map(PathBuf::from);
    if folder.is_none() {
        println!("skipped: {variable} is not set");
    }
    folder
}

fn lines(path: PathBuf) -> Vec<String> {
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.strip_suffix('\n').unwrap_or(&text).split('\n').map(str::to_owned).collect()
}

/// The sentences of `make_golden.py`, in its order.
fn sentences(corpora: &Path) -> Vec<String> {
    let field = |row: &String, number: usize| row.split('\t').nth(number).expect("a field").to_owned();
    let mut seen = HashSet::new();
    let mut texts: Vec<String> = lines(corpora.join("aimed/aimed_pairs.tsv"))
        .iter()
        .skip(1)
        .map(|row| row.rsplit('\t').next().expect("a field").to_owned())
        .filter(|text| seen.insert(text.clone()))
        .collect();
    let mut rows = HashSet::new();
    let tagged = lines(corpora.join("blue/ddi_dev.tsv")).into_iter().skip(1).map(|row| field(&row, 1));
    let tagged: Vec<String> = tagged.filter(|text| rows.insert(text.clone())).take(4_000).collect();
    texts.extend(tagged.into_iter().filter(|text| seen.insert(text.clone())));
    for file in [
        "chemprot_training/chemprot_training_abstracts.tsv",
        "chemprot_development/chemprot_development_abstracts.tsv",
        "chemprot_test_gs/chemprot_test_abstracts_gs.tsv",
    ] {
        for row in lines(corpora.join("chemprot").join(file)) {
            let parts = row.split('\t').skip(1).flat_map(|field| field.split(". "));
            texts.extend(parts.filter(|text| !text.is_empty() && seen.insert((*text).to_owned())).map(str::to_owned));
        }
    }
    texts.truncate(10_000);
    texts
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn describe(tokenizer: &Tokenizer, text: &str) -> String {
    let pieces = tokenizer.pieces(text).expect("pieces");
    let parts: Vec<String> =
        pieces.iter().map(|piece| format!("{}:{}-{}", piece.id, piece.span.start, piece.span.end)).collect();
    parts.join(" ")
}

#[test]
fn published_vocabularies_cut_sentences_as_transformers_does() {
    let (Some(corpora), Some(encoders)) = (data("BIOREL_CORPORA"), data("BIOREL_ENCODERS")) else { return };
    let mut texts: Vec<String> = serde_json::from_str(include_str!("golden/tokenizer/hard.json")).expect("hard.json");
    texts.extend(sentences(&corpora));
    for (name, folder, casing, _, _) in VOCABULARIES {
        let tokenizer = Tokenizer::open(encoders.join("vocab").join(folder), None).expect(folder);
        assert_eq!(tokenizer.casing(), casing, "{name}");
        let golden = format!("{}/tests/golden/tokenizer/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        let golden = std::fs::read_to_string(golden).expect("golden file");
        let (head, hashes) = golden.split_once('\n').expect("two parts");
        let (count, every) = head.split_once(' ').expect("two fields");
        assert_eq!(texts.len().to_string(), count, "sentences");
        let hashes: String = hashes.split_whitespace().collect();
        let described: Vec<String> = texts.iter().map(|text| describe(&tokenizer, text)).collect();
        for (position, (text, described)) in texts.iter().zip(&described).enumerate() {
            let hash = &hex(&Sha256::digest(described))[..4];
            assert_eq!(hash, &hashes[4 * position..][..4], "{name}, sentence {position}: {text}\n{described}");
        }
        assert_eq!(hex(&Sha256::digest(described.join("\n"))), every, "{name}, all sentences");
    }
}

#[test]
fn published_vocabularies_have_their_own_special_ids_and_words() {
    let Some(encoders) = data("BIOREL_ENCODERS") else { return };
    for (name, folder, _, [unk, cls, sep], pieces) in VOCABULARIES {
        let tokenizer = Tokenizer::open(encoders.join("vocab").join(folder), None).expect(folder);
        assert_eq!([tokenizer.unk_id(), tokenizer.cls_id(), tokenizer.sep_id()], [unk, cls, sep], "{name}");
        assert_eq!(tokenizer.pad_id(), Some(0), "{name}");
        assert_eq!(tokenizer.pieces("acetyltransferase").expect("pieces").len(), pieces, "{name}");
        assert!(tokenizer.pieces("acetyltransferase").expect("pieces").iter().all(|piece| piece.word == 0), "{name}");
    }
}

/// From tokenizer.json, where a model has one, the pieces are those from its vocab.txt.
#[test]
fn both_vocabulary_files_give_the_same_tokenizer() {
    let Some(encoders) = data("BIOREL_ENCODERS") else { return };
    let text = "The Café inhibits @DRUG$ acetyltransferase, IL-2Rα.";
    for (folder, file) in [
        ("scibert-scivocab-uncased", "tokenizer.json"),
        ("biolinkbert", "tokenizer.json"),
        ("bert-base-uncased_bluebert", "tokenizer.minilm.json"),
    ] {
        let source = encoders.join("vocab").join(folder);
        let pieces = |from: &str, to: &str| {
            let directory = tempfile::tempdir().expect("temporary directory");
            std::fs::copy(source.join(from), directory.path().join(to)).expect(from);
            Tokenizer::open(directory.path(), None).expect(folder).pieces(text).expect("pieces")
        };
        assert_eq!(pieces(file, "tokenizer.json"), pieces("vocab.txt", "vocab.txt"), "{folder}");
    }
}
