//! Shared by the targets: an input as files in an in-memory folder, and the invariants of what is
//! read.
//!
//! An input is one byte that selects the reader, and the contents of the files, separated by
//! [`BETWEEN`]. All readers take paths, as users do; `fuzz/seeds.py` builds such inputs from the
//! tests' data.

use std::fs;
use std::path::{Path, PathBuf};

use biorel::corpus::Corpus;
use biorel::encode::{Marking, instances};

/// Separates two files of one input.
pub const BETWEEN: &[u8] = b"\n=====\n";

/// This process's folder in `/dev/shm`, or in the system's temporary directory.
pub fn folder(name: &str) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let folder = parent.join(format!("biorel-fuzz-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("the fuzzer's own folder");
    folder
}

/// The file of that name in the fuzzer's folder, with these bytes; an earlier one is overwritten.
pub fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().expect("a folder above the file")).expect("the fuzzer's own folder");
    fs::write(&path, bytes).expect("the fuzzer's own file");
    path
}

/// The parts of an input.
pub fn parts(data: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut rest = data;
    while let Some(at) = rest.windows(BETWEEN.len()).position(|window| window == BETWEEN) {
        parts.push(&rest[..at]);
        rest = &rest[at + BETWEEN.len()..];
    }
    parts.push(rest);
    parts
}

/// Check the invariants of every corpus that a reader returns: offsets inside the text and on its
/// mentions, labels of the task, and every pair marked in every way, or refused by an error.
pub fn check_corpus(corpus: &Corpus) {
    let _ = corpus.content_hash();
    assert!(!corpus.statistics().is_empty());
    for sentence in corpus.sentences() {
        sentence.check().expect("a guarantee of the reader");
        for pair in &sentence.pairs {
            assert!(pair.label < corpus.task.labels.len());
        }
    }
    for split in &corpus.splits {
        for marking in [Marking::Typed, Marking::Blue, Marking::Markers] {
            if let Ok(found) = instances(&split.sentences, &corpus.task, marking) {
                assert_eq!(found.len(), split.pairs());
            }
        }
    }
}
