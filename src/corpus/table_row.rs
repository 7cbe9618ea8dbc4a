//! One row of a user's table, from a file or from memory.

use std::path::PathBuf;

use super::{Span, TableRow};
use crate::Error;

/// The columns of the offsets: all of them or none.
pub(super) const OFFSETS: [&str; 4] = ["entity1_start", "entity1_end", "entity2_start", "entity2_end"];

/// Where a row comes from, for messages and identifiers.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    /// Line of a file; `None` for a table in memory.
    pub(super) line: Option<usize>,
    pub(super) row: TableRow,
    /// What messages call a row of a table in memory.
    pub(super) name: Option<String>,
}

impl Place {
    pub(super) fn error(&self, message: String) -> Error {
        match self.line {
            Some(line) => Error::corpus_line(&self.path, line, message),
            None => {
                let number = self.row.row.to_string();
                Error::corpus(&self.path, format!("row {}: {message}", self.name.as_ref().unwrap_or(&number)))
            }
        }
    }
}

/// An argument as a row states it.
#[derive(Debug, Clone)]
pub(super) struct Argument {
    /// `None` where a tag in the text marks it.
    pub(super) span: Option<Span>,
    pub(super) text: Option<String>,
    pub(super) entity_type: Option<String>,
}

/// One row, wherever it came from.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) place: Place,
    pub(super) id: Option<String>,
    pub(super) document: Option<String>,
    pub(super) sentence: Option<String>,
    pub(super) text: String,
    pub(super) label: String,
    pub(super) arguments: [Argument; 2],
    pub(super) split: Option<String>,
    pub(super) fold: Option<usize>,
}
