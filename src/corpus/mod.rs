//! Corpora as their authors published them, read into [`Sentence`]s.
//!
//! All offsets are **characters** (Unicode scalar values), end-exclusive, into [`Sentence::text`], whatever the
//! file's own convention was; the readers convert and check them.

mod candidates;
mod chemprot;
mod ddi;
mod ddi_blue;
pub mod documents;
mod files;
mod hash;
mod offsets;
mod pairs_tsv;
mod report;
mod sentences;
mod statistics;
mod table;
mod table_files;
mod tagged;
mod tags;
mod task;
mod unified;
mod xml;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;

pub use candidates::Candidates;
pub use report::{Finding, FindingKind, Report};
pub use sentences::split_sentences;
pub use statistics::SplitStatistics;
pub use table::Columns;
pub use tags::{find_tags, is_marker, is_tag};
pub use task::{Averaging, Task};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A half-open range of characters, `start <= i < end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span {
    /// First character.
    pub start: usize,
    /// One past the last character.
    pub end: usize,
}

impl Span {
    /// The span from `start` up to and without `end`.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// Number of characters.
    pub fn len(&self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// Whether the span holds no character.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the two spans share a character.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// Whether the two spans share a character or stand directly side by side.
    pub fn touches(&self, other: &Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    /// The smallest span that holds both.
    pub fn union(&self, other: &Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// A named mention in a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entity {
    /// Identifier, unique in its sentence.
    pub id: String,
    /// Type as the corpus names it: `protein`, `drug`, `CHEMICAL`, `GENE-Y`, ...
    pub kind: String,
    /// The mention's text as the corpus states it.
    pub text: String,
    /// One or more segments, sorted; more than one for a discontinuous mention.
    pub spans: Vec<Span>,
}

impl Entity {
    /// From the first character of the first segment to the last character of the last one.
    pub fn hull(&self) -> Span {
        self.spans.iter().copied().reduce(|hull, span| hull.union(&span)).unwrap_or(Span { start: 0, end: 0 })
    }
}

/// A candidate relation between two entities of one sentence, with its gold label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// Identifier, unique in its corpus.
    pub id: String,
    /// Index of the first argument in [`Sentence::entities`].
    pub entity1: usize,
    /// Index of the second argument in [`Sentence::entities`].
    pub entity2: usize,
    /// Index into [`Task::labels`]. A pair with several gold labels gives several `Pair`s.
    pub label: usize,
    /// The row that states it, in a user's table.
    pub row: Option<TableRow>,
}

/// Which row of a user's table states a pair. The order is that of the tables and of their rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableRow {
    /// Number of the table among those that were read together, from 0.
    pub table: usize,
    /// Number of the row in its table, from 0; a header is no row.
    pub row: usize,
}

/// One sentence with its entities and its candidate pairs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sentence {
    /// Identifier, unique in its corpus.
    pub id: String,
    /// Identifier of the document: the unit that cross-validation keeps together.
    pub document: String,
    /// The text that all spans index.
    pub text: String,
    /// The mentions, in the corpus's order.
    pub entities: Vec<Entity>,
    /// The candidate pairs, in the corpus's order.
    pub pairs: Vec<Pair>,
}

impl Sentence {
    /// Check what every later stage relies on: each entity has sorted, non-empty segments inside the text, and each
    /// pair names two different entities. The readers guarantee it; sentences that a user makes must pass it.
    ///
    /// # Errors
    /// [`Error::Corpus`], naming the sentence and the entity or pair.
    pub fn check(&self) -> Result<()> {
        let fail = |message: String| Err(Error::corpus(format!("sentence {}", self.id), message));
        let length = self.text.chars().count();
        for (number, entity) in self.entities.iter().enumerate() {
            let name =
                if entity.id.is_empty() { format!("entities[{number}]") } else { format!("entity {}", entity.id) };
            if entity.spans.is_empty() {
                return fail(format!("{name} has no offsets"));
            }
            let mut last = 0;
            for span in &entity.spans {
                if span.start >= span.end {
                    return fail(format!("{name}: start {} is not before end {}", span.start, span.end));
                }
                if span.end > length {
                    return fail(format!("{name}: end {} is outside of the text ({length} characters)", span.end));
                }
                if span.start < last {
                    return fail(format!("{name}: segments overlap or are not in order"));
                }
                last = span.end;
            }
        }
        for pair in &self.pairs {
            if pair.entity1 >= self.entities.len() || pair.entity2 >= self.entities.len() {
                return fail(format!("pair {} names an entity that the sentence does not have", pair.id));
            }
            if pair.entity1 == pair.entity2 {
                return fail(format!("pair {} has the same entity twice", pair.id));
            }
        }
        Ok(())
    }
}

/// A named part of a corpus: `train`, `dev`, `test`, or `all`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Its name.
    pub name: String,
    /// Its sentences, those without a pair included, in the corpus's order.
    pub sentences: Vec<Sentence>,
}

impl Split {
    /// Number of candidate pairs.
    pub fn pairs(&self) -> usize {
        self.sentences.iter().map(|sentence| sentence.pairs.len()).sum()
    }
}

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

/// Settings of the readers; the default reads every corpus as its authors published it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Which named splits to form. DDI: `full` (default) or `blue`. Other corpora have one form.
    pub splits: Option<String>,
    /// Table: the name of the user's column for each of ours (`entity1_start` -> `begin1`), where they differ.
    pub columns: BTreeMap<String, String>,
    /// Table and documents: all labels in order; another one is an error. Without it they are collected from the data.
    pub labels: Option<Vec<String>>,
    /// Table and documents: the label that means "no relation". Without it a label such as `false` or `negative` is
    /// recognised; documents have `none` where there is no such label.
    pub negative: Option<String>,
    /// Table and documents: the name of the task, that of the format by default.
    pub name: Option<String>,
    /// Documents: the types of the first and the second argument of candidate pairs. Without it, those of the relations.
    pub pairs: Option<Vec<(String, String)>>,
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
        ];
        if let Some((field, ..)) = given.into_iter().find(|(_, applies, given)| *given && !applies) {
            let message = match field {
                "columns" => format!("only a table has it; {} defines its own", kind.name()),
                "pairs" => format!("only documents (pubtator, bioc, brat) have it, not {}", kind.name()),
                _ => format!("only a table and documents have it; {} defines its own", kind.name()),
            };
            return Err(Error::config(field, message));
        }
        let corpus = match kind {
            CorpusKind::Aimed => unified::read(paths)?,
            CorpusKind::Ddi => ddi::read(paths, options)?,
            CorpusKind::Chemprot => chemprot::read(paths)?,
            CorpusKind::Table => table_files::read(paths, options)?,
            CorpusKind::Pubtator | CorpusKind::Bioc | CorpusKind::Brat => documents::read(kind, paths, options)?,
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

    /// The corpus in bytes, for another process of the same version.
    ///
    /// # Errors
    /// [`Error::Corpus`] when it cannot be written, which no reader's corpus causes.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|error| Error::corpus("corpus", format!("cannot be written: {error}")))
    }

    /// The corpus of [`Corpus::to_bytes`]; it is checked as if it had been read from files.
    ///
    /// # Errors
    /// [`Error::Corpus`] for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let damaged = |error| Error::corpus("corpus", format!("was not written by this version of biorel: {error}"));
        let corpus: Self = serde_json::from_slice(bytes).map_err(damaged)?;
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
            Error::config("split", format!("`{name}` is not a split of {}; it has {}", self.name, known.join(", ")))
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

    /// What all readers promise: identifiers are unique, every sentence passes its check, no split is without pairs.
    fn check(&self, path: &Path) -> Result<()> {
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
                    return Err(Error::corpus(path, format!("sentence id {} is there twice", sentence.id)));
                }
                for pair in &sentence.pairs {
                    if pair.label >= self.task.labels.len() {
                        return Err(Error::corpus(path, format!("pair {} has a label outside of the task", pair.id)));
                    }
                    if !pairs.insert(pair.id.as_str()) {
                        return Err(Error::corpus(path, format!("pair id {} is there twice", pair.id)));
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
