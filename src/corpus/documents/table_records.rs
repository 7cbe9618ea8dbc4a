//! Splits DrugProt's tables into documents: a row of the table of abstracts with its rows of the
//! other two tables.
//!
//! ```text
//! *_abstracs.tsv   pmid, title, abstract
//! *_entities.tsv   pmid, T1, CHEMICAL, start, end, text
//! *_relations.tsv  pmid, INHIBITOR, Arg1:T1, Arg2:T2
//! ```
//! The rows of a document are not next to each other, and the tables have different orders: the
//! entities and relations are kept in memory, and the abstracts are read one by one.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::bytes::{Bytes, RECORD_LIMIT, Stop};
use super::companion::Companion;
use super::inputs::open;
use super::table_names::table_of;
use crate::{Error, Result};

/// A document: its line in the table of abstracts, the row, the rows of the other tables.
type Found = (usize, Vec<u8>, Vec<Companion>);

pub(super) struct Splitter {
    abstracts: Bytes,
    path: Arc<Path>,
    known: HashSet<Vec<u8>>,
    tables: Vec<Table>,
    /// What is wrong with rows that are left when the abstracts end.
    unused: Option<std::vec::IntoIter<Error>>,
}

/// The rows of each document, and their lines.
type Rows = HashMap<Vec<u8>, (Vec<u8>, Vec<usize>)>;

/// A table in memory.
struct Table {
    path: Arc<Path>,
    rows: Rows,
}

impl Splitter {
    pub(super) fn open(path: &Arc<Path>, read: Arc<AtomicU64>) -> Result<Self> {
        let entities = table_of(path, "entities").ok_or_else(|| {
            let message = "its table of entities is missing: a file with the same name and `entities` for `abstracs`";
            Error::corpus(&**path, message)
        })?;
        let mut tables = vec![Table::read(&entities)?];
        if let Some(relations) = table_of(path, "relations") {
            tables.push(Table::read(&relations)?);
        }
        let abstracts = Bytes::new(open(path, read)?);
        Ok(Self { abstracts, path: path.clone(), known: HashSet::new(), tables, unused: None })
    }

    /// The next document, or an error about one document.
    pub(super) fn next(&mut self) -> std::result::Result<Option<Result<Found>>, Stop> {
        while self.unused.is_none() {
            let line = self.abstracts.line();
            let mut row = Vec::new();
            let more = self.abstracts.line_into(&mut row)?;
            if row.len() > RECORD_LIMIT {
                return Err(Stop::TooLarge(line));
            }
            if !row.iter().all(u8::is_ascii_whitespace) {
                return Ok(Some(self.document(line, row)));
            }
            if !more {
                self.unused = Some(self.rest().into_iter());
            }
        }
        Ok(self.unused.as_mut().and_then(Iterator::next).map(Err))
    }

    fn document(&mut self, line: usize, row: Vec<u8>) -> Result<Found> {
        let id = key(&row).to_vec();
        if !self.known.insert(id.clone()) {
            let message = format!("document {} appears twice", String::from_utf8_lossy(&id));
            return Err(Error::corpus_line(&*self.path, line, message));
        }
        let companion = |table: &mut Table| {
            let (raw, lines) = table.rows.remove(&id).unwrap_or_default();
            Companion { path: table.path.clone(), raw, lines }
        };
        Ok((line, row, self.tables.iter_mut().map(companion).collect()))
    }

    /// The errors about rows of documents that are not among the abstracts.
    fn rest(&mut self) -> Vec<Error> {
        let mut errors = Vec::new();
        for table in &mut self.tables {
            let mut rest: Vec<(usize, Vec<u8>)> = std::mem::take(&mut table.rows)
                .into_iter()
                .map(|(id, (_, lines))| (lines.first().copied().unwrap_or_default(), id))
                .collect();
            rest.sort_unstable();
            errors.extend(rest.into_iter().map(|(line, id)| {
                let name = self.path.file_name().unwrap_or_default().to_string_lossy();
                let message = format!("document {} is not in {name}", String::from_utf8_lossy(&id));
                Error::corpus_line(&*table.path, line, message)
            }));
        }
        errors
    }
}

impl Table {
    fn read(path: &Path) -> Result<Self> {
        let mut reader = BufReader::new(open(path, Arc::default())?);
        let (mut rows, mut line) = (Rows::new(), Vec::new());
        for number in 1.. {
            line.clear();
            if reader.read_until(b'\n', &mut line).map_err(Error::io(path))? == 0 {
                break;
            }
            let row = if number == 1 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line) } else { &line };
            if !row.iter().all(u8::is_ascii_whitespace) {
                let (raw, lines) = rows.entry(key(row).to_vec()).or_default();
                if raw.last().is_some_and(|last| *last != b'\n') {
                    raw.push(b'\n');
                }
                raw.extend_from_slice(row);
                lines.push(number);
            }
        }
        Ok(Self { path: path.into(), rows })
    }
}

/// The identifier of a row's document: what is before the first tab.
fn key(row: &[u8]) -> &[u8] {
    let end = row.iter().position(|byte| matches!(byte, b'\t' | b'\n' | b'\r')).unwrap_or(row.len());
    &row[..end]
}
