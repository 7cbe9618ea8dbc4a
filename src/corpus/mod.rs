//! Corpora as their authors published them, read into [`Sentence`]s.
//!
//! All offsets are **characters** (Unicode scalar values), end-exclusive, into [`Sentence::text`],
//! whatever the file's own convention was; the readers convert and check them.

mod candidates;
mod chemprot;
#[allow(clippy::module_inception, reason = "the folder is named after its main type")]
mod corpus;
mod ddi;
mod ddi_blue;
pub mod documents;
mod files;
mod hash;
mod kind;
mod offsets;
mod pairs_tsv;
mod reader;
mod report;
mod sentence;
mod sentences;
mod statistics;
mod table;
mod table_files;
mod table_row;
mod tagged;
mod tags;
mod task;
mod unified;
mod xml;

use std::path::{Path, PathBuf};

pub use candidates::Candidates;
pub use corpus::{Corpus, ReadOptions};
pub use kind::CorpusKind;
pub use report::{Finding, FindingKind, Report};
pub use sentence::{ConceptPair, Entity, Pair, Sentence, Span, Split, TableRow};
pub use sentences::split_sentences;
pub use statistics::SplitStatistics;
pub use table::{TableColumns, means_none};
pub use tags::{find_tags, is_marker, is_tag};
pub use task::{Averaging, MAX_MENTIONS, Scope, Task};

use crate::{Error, Result};

impl Corpus {
    /// Read a corpus from its original files: one or several files, a folder, or a `.zip` (never
    /// unpacked to disk).
    ///
    /// # Errors
    /// A missing file, one that does not follow its format, offsets that do not match, an unknown
    /// label, duplicate identifiers, an empty split: each names the file, and the line where there
    /// is one.
    pub fn read(kind: CorpusKind, paths: &[PathBuf], options: &ReadOptions) -> Result<Self> {
        if paths.is_empty() {
            return Err(Error::config("path", "give at least one file or folder"));
        }
        kind.check(options)?;
        let corpus = (kind.reader().read)(kind.name(), paths, options)?;
        corpus.check(&paths[0])?;
        Ok(corpus)
    }

    /// A corpus from columns in memory, one row per pair, such as a DataFrame.
    ///
    /// # Errors
    /// As [`Corpus::read`]; messages name rows as `row 3`, counted from 0 as in pandas.
    pub fn from_columns(columns: &TableColumns, options: &ReadOptions) -> Result<Self> {
        let corpus = table::from_columns(columns, options)?;
        corpus.check(Path::new("table"))?;
        Ok(corpus)
    }

    /// A corpus from documents in memory, all in the split `all`: relations are the labels.
    ///
    /// # Errors
    /// As [`Corpus::read`].
    pub fn from_documents(documents: Vec<documents::Document>, options: &ReadOptions) -> Result<Self> {
        documents.iter().try_for_each(documents::Document::check)?;
        let path = Path::new("documents");
        let corpus = documents::of_documents(vec![("all".to_owned(), documents)], options, "documents", None, path)?;
        corpus.check(path)?;
        Ok(corpus)
    }
}
