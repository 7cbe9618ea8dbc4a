//! One row of a user's table, from a file or from memory.

use std::path::PathBuf;

use super::{Span, TableRow};
use crate::Error;

/// The columns of the offsets: all of them or none.
pub(super) const OFFSETS: [&str; 4] = ["entity1_start", "entity1_end", "entity2_start", "entity2_end"];

/// Where a row was read, for messages and identifiers.
#[derive(Debug, Clone)]
pub(super) struct RowLocation {
    pub(super) path: PathBuf,
    /// Line of a file; `None` for a table in memory.
    pub(super) line: Option<usize>,
    pub(super) row: TableRow,
    /// The name of the row in messages, for a table in memory.
    pub(super) name: Option<String>,
}

impl RowLocation {
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
pub(super) struct RowArgument {
    /// `None` if a tag in the text marks it.
    pub(super) span: Option<Span>,
    pub(super) text: Option<String>,
    pub(super) entity_type: Option<String>,
}

/// One row, from any source.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) location: RowLocation,
    pub(super) id: Option<String>,
    pub(super) document: Option<String>,
    pub(super) sentence: Option<String>,
    pub(super) text: String,
    pub(super) label: String,
    pub(super) arguments: [RowArgument; 2],
    pub(super) split: Option<String>,
    pub(super) fold: Option<usize>,
}
