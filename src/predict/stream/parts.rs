//! Settings of a stream and its results: positions, and parts of documents with their pairs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::corpus::documents::{Dictionary, Document};
use crate::ops::compute::Compute;
use crate::predict::most_probable;
use crate::{Error, Result};

/// How documents are turned into pairs, and pairs into parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSettings {
    /// The model's name for a type in the files, if they differ in more than case.
    pub types: BTreeMap<String, String>,
    /// Documents in a part, at most.
    pub part_documents: usize,
    /// Pairs in a part; only a part of a single document may have more.
    pub part_pairs: usize,
    /// Maximum number of pairs of a document; one with more is a failure.
    pub max_pairs: usize,
    /// The shard of the documents to read: number `.0`, from 0, of `.1`.
    pub shard: (usize, usize),
    /// Whether documents keep their source text, so that they can be written again without loss.
    pub keep_raw: bool,
    /// Terms to search for in every document, which become entities.
    pub dictionary: Option<Arc<Dictionary>>,
    /// Engine, precision and threads. The documents are read by as many threads
    /// again.
    pub compute: Compute,
}

impl StreamSettings {
    /// The default sizes.
    pub fn new(compute: Compute) -> Self {
        Self {
            types: BTreeMap::new(),
            part_documents: 1000,
            part_pairs: 16_384,
            max_pairs: 100_000,
            shard: (0, 1),
            keep_raw: false,
            dictionary: None,
            compute,
        }
    }

    /// # Errors
    /// [`Error::Config`] for a setting out of range.
    pub(super) fn validate(&self) -> Result<()> {
        let positive = [
            ("part_documents", self.part_documents),
            ("part_pairs", self.part_pairs),
            ("max_pairs", self.max_pairs),
            ("shard", self.shard.1),
        ];
        if let Some((field, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(Error::config(*field, "must be at least 1"));
        }
        if self.shard.0 >= self.shard.1 {
            let message = format!("{} of {} does not exist", self.shard.0 + 1, self.shard.1);
            return Err(Error::config("shard", message));
        }
        Ok(())
    }
}

/// Where a run resumes: a file, and the number of its documents that are finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub struct Position {
    /// Index of the file.
    pub file: usize,
    /// Its documents that are finished, including those of other shards.
    pub record: usize,
}

/// A document that could not be used, or a file that could not be read any further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The file.
    pub path: PathBuf,
    /// The line, where it is known.
    pub line: Option<usize>,
    /// The document, where it is known.
    pub document: Option<String>,
    /// Why.
    pub reason: String,
}

/// A candidate pair of a document.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Index in [`Part::documents`].
    pub document: usize,
    /// Number of the sentence in the document; `None` at document scope.
    pub sentence: Option<usize>,
    /// Indices of the document's mentions; at document scope, of the nearest mentions of the two
    /// concepts.
    pub mentions: [usize; 2],
    /// The identifiers of the two concepts, at document scope.
    pub concepts: Option<[String; 2]>,
    /// Probability of every label; `None` for a pair whose mentions do not fit into the model's
    /// length.
    pub probabilities: Option<Vec<f32>>,
}

impl Row {
    /// Index of the most probable label, if the pair was classified.
    pub fn label(&self) -> Option<usize> {
        self.probabilities.as_deref().map(most_probable)
    }
}

/// Some documents with their pairs.
#[derive(Debug, Default)]
pub struct Part {
    /// The documents that could be used.
    pub documents: Vec<Document>,
    /// Their pairs, in order.
    pub rows: Vec<Row>,
    /// The documents that could not be used.
    pub failures: Vec<Failure>,
    /// Number of findings, by their description.
    pub counts: BTreeMap<String, usize>,
    /// Where the next part starts.
    pub next: Position,
    /// Bytes of this shard's files that have been read, before decompression.
    pub bytes: u64,
}
