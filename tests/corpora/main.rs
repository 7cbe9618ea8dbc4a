//! Readers and marking. `published` runs on the real corpora, found through BIOREL_CORPORA; all
//! other tests run on hand-written files under `tests/data/corpora`.

mod bad_input;
mod handwritten;
mod marking;
mod published;
mod table;

use std::path::{Path, PathBuf};

use biorel::corpus::{Corpus, CorpusKind, ReadOptions};

/// A file or folder of the hand-written data.
fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/corpora").join(name)
}

/// Read with default options.
fn read(kind: CorpusKind, path: impl Into<PathBuf>) -> biorel::Result<Corpus> {
    Corpus::read(kind, &[path.into()], &ReadOptions::default())
}

/// Kind, split and identifier of each finding.
fn findings(corpus: &Corpus) -> Vec<(&'static str, Option<&str>, &str)> {
    corpus.report.findings.iter().map(|f| (f.kind.name(), f.split.as_deref(), f.id.as_str())).collect()
}
