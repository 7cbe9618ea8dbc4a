//! Tokenizer files, and texts through a valid tokenizer: every piece lies within the text, in
//! order.
#![no_main]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use biorel::corpus::split_sentences;
use biorel::encode::Tokenizer;
use harness::{folder, parts, write};
use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| folder("tokenizer"));
static VALID: LazyLock<[Tokenizer; 2]> = LazyLock::new(|| {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/encoding");
    ["cased", "uncased"].map(|casing| Tokenizer::open(data.join(casing), None).expect("the tests' vocabulary"))
});

fn check(tokenizer: &Tokenizer, text: &str) {
    let Ok(pieces) = tokenizer.pieces(text) else { return };
    let length = text.chars().count();
    let (mut end, mut word) = (0, 0);
    for piece in &pieces {
        assert!(piece.span.start <= piece.span.end && piece.span.end <= length, "{piece:?} of {text:?}");
        assert!(piece.span.end >= end, "{piece:?} of {text:?}");
        assert!(piece.word == word || piece.word == word + 1, "{piece:?} of {text:?}");
        assert!((piece.id as usize) < tokenizer.vocab_size());
        (end, word) = (piece.span.end, piece.word);
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    let files = parts(rest);
    match choice % 4 {
        0 | 1 => {
            let name = if choice % 4 == 0 { "vocab.txt" } else { "tokenizer.json" };
            let directory = FOLDER.join(name.replace('.', "-"));
            write(&directory, name, files[0]);
            write(&directory, "tokenizer_config.json", files.get(1).copied().unwrap_or(b"{}"));
            if let Ok(tokenizer) = Tokenizer::open(&directory, None) {
                check(&tokenizer, "Velotrazine (10 mg) binds @PROTEIN$-like\u{3b2}2 [MASK] \u{1f9ec}.");
            }
        }
        2 => {
            let text = String::from_utf8_lossy(rest);
            VALID.iter().for_each(|tokenizer| check(tokenizer, &text));
        }
        _ => {
            let text = String::from_utf8_lossy(rest);
            let length = text.chars().count();
            let mut last = 0;
            for sentence in split_sentences(&text, &[], &[]) {
                assert!(last <= sentence.start && sentence.start < sentence.end && sentence.end <= length);
                last = sentence.end;
            }
        }
    }
});
