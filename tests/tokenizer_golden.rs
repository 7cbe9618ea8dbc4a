//! The vocabularies of the published models on 10,000 sentences of the real corpora, compared with
//! transformers' `BertTokenizer`: all ids and offsets (`tests/golden/tokenizer/make_golden.py`). Needs
//! `BIOREL_CORPORA` and `BIOREL_ENCODERS`.
//!
//! Byte-level BPE and unigram tokenizers on the same sentences and on 6,000 texts of random Unicode,
//! compared with transformers' (`tests/golden/tokenizer/make_subwords.py`).

mod noise;

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

/// Unicode's white space, in the order of `make_subwords.py`.
fn spaces() -> Vec<char> {
    let single = "\t\n\u{b}\u{c}\r \u{85}\u{a0}\u{1680}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}";
    single.chars().chain('\u{2000}'..='\u{200a}').collect()
}

/// The texts of random Unicode of `make_subwords.py`.
fn random_text(number: usize) -> String {
    let values = noise::uniform(&format!("text {number}"), 81);
    let spaces = spaces();
    let character = |(kind, value): (&f64, &f64)| {
        let (first, size) = match kind {
            kind if *kind < 0.1 => return spaces[(value * spaces.len() as f64) as usize],
            kind if *kind < 0.5 => (0x20, 0x5f),
            kind if *kind < 0.75 => (0xa0, 0x2f60),
            kind if *kind < 0.9 => (0x3000, 0xd000),
            _ => (0, 0x11_0000),
        };
        char::from_u32(first + (value * f64::from(size)) as u32).unwrap_or('x')
    };
    values[1..41].iter().zip(&values[41..]).map(character).take(1 + (values[0] * 40.0) as usize).collect()
}

fn random_texts() -> Vec<String> {
    let mut texts: Vec<String> = serde_json::from_str(include_str!("golden/tokenizer/hard.json")).expect("hard.json");
    texts.extend((0..6_000).map(random_text));
    texts
}

const SUBWORDS: [&str; 3] = ["roberta", "modernbert", "unigram"];

fn subwords(name: &str) -> Tokenizer {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tokenizer/subwords").join(name);
    Tokenizer::open(folder, None).expect(name)
}

#[test]
fn bpe_and_unigram_tokenizers_cut_texts_as_transformers_does() {
    let expected: serde_json::Value =
        serde_json::from_str(include_str!("golden/tokenizer/subwords/expected.json")).expect("expected.json");
    let mut sets = vec![("random", random_texts())];
    sets.extend(data("BIOREL_CORPORA").map(|corpora| ("corpus", sentences(&corpora))));
    for name in SUBWORDS {
        let tokenizer = subwords(name);
        for (set, texts) in &sets {
            let hashes = expected[name][set].as_str().expect("hashes");
            assert_eq!(hashes.len(), 6 * texts.len().div_ceil(10), "{name}, {set}");
            for (ten, texts) in texts.chunks(10).enumerate() {
                let described: Vec<String> = texts.iter().map(|text| describe(&tokenizer, text)).collect();
                let described = described.join("\n");
                let hash = &hex(&Sha256::digest(&described))[..6];
                assert_eq!(
                    hash,
                    &hashes[6 * ten..][..6],
                    "{name}, {set} texts from {}: {texts:?}\n{described}",
                    10 * ten
                );
            }
        }
    }
}

/// Pieces are in order and lie in the text, their words are counted without gaps, and no character
/// but white space is in none, of the tokenizer that drops nothing.
#[test]
fn every_character_has_a_piece_and_every_piece_a_word() {
    for name in SUBWORDS {
        let tokenizer = subwords(name);
        for text in random_texts() {
            let characters: Vec<char> = text.chars().collect();
            let mut covered = vec![false; characters.len()];
            let mut previous: Option<biorel::encode::Piece> = None;
            for piece in tokenizer.pieces(&text).expect("pieces") {
                assert!(piece.span.start <= piece.span.end && piece.span.end <= characters.len(), "{name}: {text:?}");
                covered[piece.span.start..piece.span.end].fill(true);
                match &previous {
                    Some(last) => {
                        assert!(last.span.start <= piece.span.start, "{name}: {text:?}");
                        assert!((last.word..=last.word + 1).contains(&piece.word), "{name}: {text:?}");
                        let between = characters.get(last.span.end..piece.span.start).unwrap_or_default();
                        let seen = |piece: &biorel::encode::Piece| piece.span.start < piece.span.end;
                        let same = last.word == piece.word && seen(last) && seen(&piece);
                        assert!(!same || !between.iter().any(|c| c.is_whitespace()), "{name}: {text:?} {piece:?}");
                    }
                    None => assert_eq!(piece.word, 0),
                }
                previous = Some(piece);
            }
            let lost = characters.iter().zip(&covered).any(|(c, covered)| !covered && !c.is_whitespace());
            assert!(!lost || name != "roberta", "{text:?}");
        }
    }
}

/// Pieces that reach over words, that are white space alone, that are one byte of a character, and
/// that come from a character of another length.
#[test]
fn words_are_those_of_the_text() {
    let described = |tokenizer: &Tokenizer, text: &str| {
        let characters: Vec<char> = text.chars().collect();
        let covered = |piece: biorel::encode::Piece| {
            (characters[piece.span.start..piece.span.end].iter().collect::<String>(), piece.word)
        };
        tokenizer.pieces(text).expect("pieces").into_iter().map(covered).collect::<Vec<_>>()
    };
    let owned =
        |pieces: &[(&str, u32)]| pieces.iter().map(|(text, word)| ((*text).to_owned(), *word)).collect::<Vec<_>>();
    let text = "IL-2  binds @DRUG$\u{3b2}1 ";
    let drug = [("@", 4), ("DRUG", 4), ("$", 4)];
    let roberta = [
        &[("I", 0), ("L", 0), ("-", 1), ("2", 2), ("", 3), ("b", 3), ("ind", 3), ("s", 3)][..],
        &drug,
        &[("\u{3b2}", 5), ("\u{3b2}", 5), ("1", 5), ("", 5)],
    ];
    assert_eq!(described(&subwords("roberta"), text), owned(&roberta.concat()));
    // The piece `-2` reaches over two words; `\u{fb01}` is two letters for the model.
    let unigram = described(&subwords("unigram"), "IL-2 \u{fb01}nds");
    assert_eq!(unigram[..5], owned(&[("", 0), ("IL", 0), ("-2", 1), ("", 2), ("\u{fb01}", 2)]));
}

/// What is saved opens as the same tokenizer, and without the files of another kind.
#[test]
fn saved_bpe_and_unigram_tokenizers_open_as_the_same() {
    for name in SUBWORDS {
        let (tokenizer, directory) = (subwords(name), tempfile::tempdir().expect("temporary directory"));
        tokenizer.save(directory.path()).expect("saved");
        let mut files: Vec<_> =
            directory.path().read_dir().expect("files").map(|f| f.expect("file").file_name()).collect();
        files.sort();
        assert_eq!(files, ["tokenizer.json", "tokenizer_config.json"]);
        let again = Tokenizer::open(directory.path(), None).expect("opened");
        assert_eq!(
            (again.cls_id(), again.sep_id(), again.pad_id(), again.mask_id(), again.casing()),
            (tokenizer.cls_id(), tokenizer.sep_id(), tokenizer.pad_id(), tokenizer.mask_id(), Casing::Cased),
            "{name}"
        );
        for text in random_texts().iter().take(500) {
            assert_eq!(tokenizer.pieces(text).expect("pieces"), again.pieces(text).expect("pieces"), "{name}");
        }
    }
}
