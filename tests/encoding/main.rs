//! Tokenizer, features and word weights on small hand-written vocabularies; on the published ones
//! in `tokenizer_golden.rs`.

mod features;
mod properties;
mod tokenizer;
mod words;

use std::path::Path;

use biorel::corpus::Span;
use biorel::encode::{Casing, Copied, Instance, Tokenizer};

const UNCASED: &str = "tests/data/encoding/uncased";

const CASED: &str = "tests/data/encoding/cased";

fn open(directory: &str) -> Tokenizer {
    Tokenizer::open(directory, None).expect(directory)
}

/// Write files into a fresh directory.
fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("temporary directory");
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).expect(name);
    }
    directory
}

fn refusal(directory: &Path, casing: Option<Casing>) -> String {
    match Tokenizer::open(directory, casing) {
        Ok(_) => panic!("{} was opened", directory.display()),
        Err(error) => error.to_string(),
    }
}

fn span(start: usize, end: usize) -> Span {
    Span { start, end }
}

/// An instance whose entities are the first occurrences of two strings, and whose other text was
/// copied from place 0.
fn instance(text: &str, entities: [&str; 2]) -> Instance {
    let place = |entity: &str, from: usize| {
        let byte = from + text[from..].find(entity).expect(entity);
        let start = text[..byte].chars().count();
        (span(start, start + entity.chars().count()), byte + entity.len())
    };
    let (first, end) = place(entities[0], 0);
    let (second, _) = place(entities[1], end);
    let length = text.chars().count();
    let mut copied = Vec::new();
    for (from, to) in [(0, first.start), (first.end, second.start), (second.end, length)] {
        if from < to {
            copied.push(Copied { marked: from, original: from, length: to - from });
        }
    }
    Instance {
        id: "d1.s0.p0".into(),
        document: "d1".into(),
        sentence: "d1.s0".into(),
        text: text.into(),
        entities: [first, second],
        mentions: entities.map(str::to_owned),
        copied,
        marker_types: None,
        label: Some(1),
        row: None,
        concepts: None,
        further: vec![],
    }
}

fn texts(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
    tokenizer.pieces(text).expect(text).into_iter().map(|piece| piece.text).collect()
}

fn words(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.pieces(text).expect(text).into_iter().map(|piece| piece.word).collect()
}
