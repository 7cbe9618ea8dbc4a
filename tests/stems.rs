//! Stems against NLTK's on words that meet every rule (`tests/golden/stems/make_golden.py`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use biorel::corpus::{Corpus, CorpusKind};
use biorel::text::stem;
use sha2::{Digest, Sha256};

#[test]
fn stems_equal_those_of_nltk() {
    let golden = include_str!("golden/stems/stems.tsv");
    let mut words = 0;
    for line in golden.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [word, expected] = fields[..] else { panic!("bad line `{line}`") };
        assert_eq!(stem(word), expected, "{word}");
        words += 1;
    }
    assert!(words > 8000, "{words}");
}

/// Every distinct word of the published corpora, by digests (`tests/golden/stems/make_corpora.py`).
/// Needs `BIOREL_CORPORA`.
#[test]
fn stems_of_the_corpora_equal_those_of_nltk() {
    let Some(corpora) = std::env::var_os("BIOREL_CORPORA") else {
        println!("skipped: BIOREL_CORPORA is not set");
        return;
    };
    let mut words: BTreeSet<String> = BTreeSet::new();
    for (kind, path) in [
        (CorpusKind::Aimed, "aimed/aimed_pairs.tsv"),
        (CorpusKind::Ddi, "ddi/DDICorpus-2013.zip"),
        (CorpusKind::Chemprot, "chemprot"),
    ] {
        let path = PathBuf::from(&corpora).join(path);
        let corpus = Corpus::read(kind, &[path], &Default::default()).unwrap();
        for sentence in corpus.splits.iter().flat_map(|split| &split.sentences) {
            let text = sentence.text.to_lowercase();
            let parts = text.split(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric());
            words.extend(parts.map(str::trim).filter(|part| !part.is_empty()).map(String::from));
        }
    }
    let mut buckets: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for word in &words {
        let first = word.chars().next().filter(char::is_ascii).map_or("other".into(), String::from);
        buckets.entry(first).or_default().push(word);
    }
    let golden: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(include_str!("golden/stems/corpora.json")).unwrap();
    assert_eq!(buckets.keys().collect::<Vec<_>>(), golden.keys().collect::<Vec<_>>());
    for (first, words) in &buckets {
        let lines: String = words.iter().map(|word| format!("{word}\t{}\n", stem(word))).collect();
        let hash = Sha256::digest(lines.as_bytes());
        let digest: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let expected = &golden[first];
        assert_eq!(words.len() as u64, expected["words"].as_u64().unwrap(), "words with {first}");
        assert_eq!(digest, expected["digest"], "words with {first}");
    }
}
