//! Corpora as their authors published them, read into [`Sentence`]s.
//!
//! All offsets are **characters** (Unicode scalar values), end-exclusive, into [`Sentence::text`], whatever the
//! file's own convention was; the readers convert and check them.

mod candidates;
mod chemprot;
#[allow(clippy::module_inception, reason = "the room is named after its main value")]
mod corpus;
mod ddi;
mod ddi_blue;
pub mod documents;
mod files;
mod hash;
mod offsets;
mod pairs_tsv;
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
use std::str::FromStr;

pub use candidates::Candidates;
pub use corpus::{Corpus, ReadOptions};
pub use report::{Finding, FindingKind, Report};
pub use sentence::{Entity, Pair, Sentence, Span, Split, TableRow};
pub use sentences::split_sentences;
pub use statistics::SplitStatistics;
pub use table::Columns;
pub use tags::{find_tags, is_marker, is_tag};
pub use task::{Averaging, Task};

use crate::{Error, Result};
use documents::Format;

/// Which format to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CorpusKind {
    /// AIMed and other corpora in the unified PPI XML form, or the flat `aimed_pairs.tsv`.
    Aimed,
    /// DDIExtraction 2013.
    Ddi,
    /// ChemProt, BioCreative VI track 5.
    Chemprot,
    /// A user's own pairs: TSV, CSV or JSONL.
    Table,
    /// Documents in PubTator's text format, with relations.
    Pubtator,
    /// Documents in BioC (XML or JSON), with relations.
    Bioc,
    /// Documents in brat's standoff format, with relations.
    Brat,
}

impl CorpusKind {
    /// All formats, in the order in which messages name them.
    pub const ALL: [Self; 7] =
        [Self::Aimed, Self::Ddi, Self::Chemprot, Self::Table, Self::Pubtator, Self::Bioc, Self::Brat];

    /// The name as users write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aimed => "aimed",
            Self::Ddi => "ddi",
            Self::Chemprot => "chemprot",
            Self::Table => "table",
            Self::Pubtator => "pubtator",
            Self::Bioc => "bioc",
            Self::Brat => "brat",
        }
    }

    /// Whether the files hold whole documents, whose relations are the labels.
    fn is_documents(self) -> bool {
        matches!(self, Self::Pubtator | Self::Bioc | Self::Brat)
    }
}

impl FromStr for CorpusKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            Error::config("corpus", format!("`{name}` is not a known corpus; choose one of {known}"))
        })
    }
}

impl Corpus {
    /// Read a corpus from its original files: one or several files, a folder, or a `.zip` (never unpacked to disk).
    ///
    /// # Errors
    /// A missing file, one that is not in the promised form, offsets that do not match, an unknown label, duplicate
    /// identifiers, an empty split: each names the file, and the line where there is one.
    pub fn read(kind: CorpusKind, paths: &[PathBuf], options: &ReadOptions) -> Result<Self> {
        if paths.is_empty() {
            return Err(Error::config("path", "give at least one file or folder"));
        }
        if kind != CorpusKind::Ddi
            && let Some(splits) = &options.splits
        {
            let message = format!("`{splits}` cannot be chosen for {}; only ddi has named splits", kind.name());
            return Err(Error::config("splits", message));
        }
        let own = kind == CorpusKind::Table || kind.is_documents();
        let given = [
            ("columns", kind == CorpusKind::Table, !options.columns.is_empty()),
            ("labels", own, options.labels.is_some()),
            ("negative", own, options.negative.is_some()),
            ("name", own, options.name.is_some()),
            ("pairs", kind.is_documents(), options.pairs.is_some()),
            ("errors", kind.is_documents(), options.skip_errors),
        ];
        if let Some((field, ..)) = given.into_iter().find(|(_, applies, given)| *given && !applies) {
            let message = match field {
                "columns" => format!("only a table has it; {} defines its own", kind.name()),
                "pairs" | "errors" => format!("only documents (pubtator, bioc, brat) have it, not {}", kind.name()),
                _ => format!("only a table and documents have it; {} defines its own", kind.name()),
            };
            return Err(Error::config(field, message));
        }
        let corpus = match kind {
            CorpusKind::Aimed => unified::read(paths)?,
            CorpusKind::Ddi => ddi::read(paths, options)?,
            CorpusKind::Chemprot => chemprot::read(paths)?,
            CorpusKind::Table => table_files::read(paths, options)?,
            CorpusKind::Pubtator => documents::read(kind.name(), &[Format::Pubtator], paths, options)?,
            CorpusKind::Bioc => documents::read(kind.name(), &[Format::BiocJson, Format::BiocXml], paths, options)?,
            CorpusKind::Brat => documents::read(kind.name(), &[Format::Brat], paths, options)?,
        };
        corpus.check(&paths[0])?;
        Ok(corpus)
    }

    /// A corpus from columns in memory, one row per pair: what a DataFrame holds.
    ///
    /// # Errors
    /// As [`Corpus::read`]; rows are named `row 3`, counted from 0 as pandas does.
    pub fn from_columns(columns: &Columns, options: &ReadOptions) -> Result<Self> {
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
        let corpus = documents::of_documents(vec![("all".to_owned(), documents)], options, "documents", path)?;
        corpus.check(path)?;
        Ok(corpus)
    }
}
