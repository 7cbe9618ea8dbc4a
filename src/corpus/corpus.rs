//! A corpus in memory.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::report::{Finding, FindingKind, Report};
use super::sentence::{Sentence, Split};
use super::task::{Scope, Task};
use crate::{Error, Result};

/// Settings of the readers; the default reads every corpus as its authors published it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Which named splits to build. DDI: `full` (default) or `blue`. Other corpora have one form
    /// only.
    pub splits: Option<String>,
    /// Table: the user's name for each column (`entity1_start` -> `begin1`), where it differs.
    pub columns: BTreeMap<String, String>,
    /// Table and documents: all labels in order; any other label is an error. By default they are
    /// collected from the data.
    pub labels: Option<Vec<String>>,
    /// Table and documents: the label that means "no relation". By default a label such as `false`
    /// or `negative` is recognised; documents without such a label get `none`.
    pub negative: Option<String>,
    /// Table and documents: the name of the task; by default the name of the format.
    pub name: Option<String>,
    /// Documents in files: skip and report those that cannot be read. By default they are errors.
    pub skip_errors: bool,
    /// Documents: the types of the first and the second argument of candidate pairs. By default
    /// those of the relations.
    pub pairs: Option<Vec<(String, String)>>,
    /// Documents: pairs of mentions in a sentence, or pairs of concepts in a document.
    pub scope: Scope,
    /// Documents: see [`Task::max_mentions`]; by default [`super::MAX_MENTIONS`].
    pub max_mentions: Option<usize>,
    /// Documents: the attribute of relations whose value is the label, in place of their type.
    pub attribute: Option<String>,
}

/// A corpus in memory: its task, its splits, and what happened while it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Corpus {
    /// `aimed`, `ddi`, `chemprot`, or the name of the user's table.
    pub name: String,
    /// Labels, negative label, averaging, candidate pairs.
    pub task: Task,
    /// The splits in their usual order.
    pub splits: Vec<Split>,
    /// The published fold of each document, where the file states one.
    pub folds: Option<BTreeMap<String, usize>>,
    /// What was lost, skipped or repaired while reading.
    pub report: Report,
}

impl Corpus {
    /// The corpus as bytes, for another process with the same version of biorel.
    ///
    /// # Errors
    /// [`Error::Corpus`] when it cannot be written, which no reader's corpus causes.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|error| Error::corpus("corpus", format!("cannot be written: {error}")))
    }

    /// The corpus from the bytes of [`Corpus::to_bytes`], checked as if it had been read from
    /// files.
    ///
    /// # Errors
    /// [`Error::Corpus`] for any other bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let invalid = |error| Error::corpus("corpus", format!("was not written by this version of biorel: {error}"));
        let corpus: Self = serde_json::from_slice(bytes).map_err(invalid)?;
        corpus.check(Path::new("corpus"))?;
        Ok(corpus)
    }

    /// The split of that name.
    ///
    /// # Errors
    /// [`Error::Config`] with the names that exist.
    pub fn split(&self, name: &str) -> Result<&Split> {
        self.splits.iter().find(|split| split.name == name).ok_or_else(|| {
            let known: Vec<_> = self.splits.iter().map(|split| split.name.as_str()).collect();
            let (corpus, known) = (&self.name, known.join(", "));
            let message = format!("`{name}` is not a split of {corpus}; it has {known}: name one of them in `split`");
            Error::config("split", message)
        })
    }

    /// All sentences of all splits, in order.
    pub fn sentences(&self) -> impl Iterator<Item = &Sentence> {
        self.splits.iter().flat_map(|split| &split.sentences)
    }

    /// Gold positives of a split that could not become a [`Pair`]: misses for corpus-level recall.
    pub fn lost<'a>(&'a self, split: &'a str) -> impl Iterator<Item = &'a Finding> {
        self.report.findings.iter().filter(move |f| f.kind == FindingKind::Lost && f.split.as_deref() == Some(split))
    }

    /// Check what every reader guarantees: unique identifiers, valid sentences, and at least one
    /// candidate pair in each split.
    pub(super) fn check(&self, path: &Path) -> Result<()> {
        let mut sentences = HashSet::new();
        let mut pairs = HashSet::new();
        for split in &self.splits {
            if split.pairs() == 0 {
                let message =
                    format!("split `{}` has no candidate pair: there is nothing to learn or score", split.name);
                return Err(Error::corpus(path, message));
            }
            for sentence in &split.sentences {
                sentence.check()?;
                if !sentences.insert(sentence.id.as_str()) {
                    return Err(Error::corpus(path, format!("sentence id {} appears twice", sentence.id)));
                }
                for pair in &sentence.pairs {
                    if pair.label >= self.task.labels.len() {
                        return Err(Error::corpus(path, format!("pair {} has a label outside of the task", pair.id)));
                    }
                    if !pairs.insert(pair.id.as_str()) {
                        return Err(Error::corpus(path, format!("pair id {} appears twice", pair.id)));
                    }
                }
            }
        }
        if self.splits.is_empty() {
            return Err(Error::corpus(path, "no sentence was found"));
        }
        Ok(())
    }
}
