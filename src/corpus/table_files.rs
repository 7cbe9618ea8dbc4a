//! Reading a user's table from TSV, CSV (with a header, quoted where needed) or JSON lines.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::files::{Tree, has_extension, lines};
use super::reader::Reader;
use super::table::build;
use super::table_row::{Argument, OFFSETS, Place, Row};
use super::{Corpus, ReadOptions, Span, TableRow};
use crate::{Error, Result};

/// The columns that a row cannot do without, beside the [`OFFSETS`], which tags can stand for.
const NEEDED: [&str; 2] = ["text", "label"];
/// The columns that it may have.
const OPTIONAL: [&str; 9] =
    ["id", "document", "sentence", "entity1", "entity2", "entity1_type", "entity2_type", "split", "fold"];

pub(super) const READER: Reader =
    Reader { takes: &["columns", "labels", "negative", "name"], read: |_, paths, options| read(paths, options) };

/// Read one or several tables. Where several files have no `split` column, each is a split of its file's name.
fn read(paths: &[PathBuf], options: &ReadOptions) -> Result<Corpus> {
    let known: Vec<&str> = NEEDED.into_iter().chain(OFFSETS).chain(OPTIONAL).collect();
    if let Some(unknown) = options.columns.keys().find(|ours| !known.contains(&ours.as_str())) {
        let known = known.join(", ");
        return Err(Error::config("columns", format!("`{unknown}` is not a column of a table; choose from {known}")));
    }
    let trees = paths.iter().map(|path| Tree::open(path)).collect::<Result<Vec<_>>>()?;
    let files: Vec<(&Tree, &String)> =
        trees.iter().flat_map(|tree| tree.names().iter().map(move |name| (tree, name))).collect();
    let mut rows = Vec::new();
    for (table, (tree, name)) in files.iter().enumerate() {
        let place = tree.place(name);
        let text = tree.read(name)?;
        let mut some = if has_extension(name, "jsonl") || has_extension(name, "ndjson") {
            json_rows(&place, table, &text, options)?
        } else if has_extension(name, "csv") {
            delimited_rows(&place, table, &text, b',', options)?
        } else if has_extension(name, "tsv") || has_extension(name, "txt") {
            delimited_rows(&place, table, &text, b'\t', options)?
        } else {
            return Err(Error::corpus(place, "is not a table; its name must end in .tsv, .csv or .jsonl"));
        };
        if files.len() > 1 {
            let stem = Path::new(name).file_stem().unwrap_or_default().to_string_lossy().into_owned();
            some.iter_mut().filter(|row| row.split.is_none()).for_each(|row| row.split = Some(stem.clone()));
        }
        rows.extend(some);
    }
    build(rows, options, paths[0].clone())
}

/// What the user calls a column of ours.
fn theirs<'a>(options: &'a ReadOptions, ours: &'a str) -> &'a str {
    options.columns.get(ours).map_or(ours, String::as_str)
}

/// A row from a function that looks up a column by our name. Its offsets may be missing where the table has no such
/// columns.
fn row(
    place: Place,
    options: &ReadOptions,
    has_offsets: bool,
    cell: impl Fn(&str) -> Result<Option<String>>,
) -> Result<Row> {
    let needed = |ours: &str| {
        cell(ours)?.ok_or_else(|| place.error(format!("column `{}` is missing or empty", theirs(options, ours))))
    };
    let number = |ours: &str, value: String| {
        // pandas writes whole numbers of a column with gaps as 3.0.
        let digits = value.trim().strip_suffix(".0").unwrap_or(value.trim());
        digits
            .parse::<usize>()
            .map_err(|_| place.error(format!("column `{}`: `{value}` is not a whole number", theirs(options, ours))))
    };
    let offset = |ours: &str| needed(ours).and_then(|value| number(ours, value));
    let has_offsets =
        has_offsets || OFFSETS.iter().map(|ours| cell(ours)).collect::<Result<Vec<_>>>()?.iter().any(Option::is_some);
    let argument = |which: &str| -> Result<Argument> {
        let span = match has_offsets {
            true => Some(Span::new(offset(&format!("{which}_start"))?, offset(&format!("{which}_end"))?)),
            false => None,
        };
        Ok(Argument { span, text: cell(which)?, entity_type: cell(&format!("{which}_type"))? })
    };
    Ok(Row {
        id: cell("id")?,
        document: cell("document")?,
        sentence: cell("sentence")?,
        text: needed("text")?,
        label: needed("label")?,
        arguments: [argument("entity1")?, argument("entity2")?],
        split: cell("split")?,
        fold: cell("fold")?.map(|value| number("fold", value)).transpose()?,
        place,
    })
}

fn delimited_rows(path: &Path, table: usize, text: &str, delimiter: u8, options: &ReadOptions) -> Result<Vec<Row>> {
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(text.as_bytes());
    let malformed = |error: csv::Error| {
        let line = error.position().map_or(1, |position| position.line() as usize);
        let message = match error.kind() {
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                format!("has {len} columns where the header has {expected_len}; is a quote or a tab out of place?")
            }
            _ => error.to_string(),
        };
        Error::corpus_line(path, line, message)
    };
    let header = reader.headers().map_err(malformed)?.clone();
    let place_of = |ours: &str| header.iter().position(|name| name == theirs(options, ours));
    let has_offsets = OFFSETS.iter().any(|ours| place_of(ours).is_some());
    let mut needed = NEEDED.into_iter().chain(OFFSETS.into_iter().filter(|_| has_offsets));
    if let Some(missing) = needed.find(|ours| place_of(ours).is_none()) {
        let there = header.iter().collect::<Vec<_>>().join(", ");
        let message = format!("no column `{}`; the columns are {there}", theirs(options, missing));
        return Err(Error::corpus_line(path, 1, message));
    }
    if let Some(renamed) = options.columns.keys().find(|ours| place_of(ours).is_none()) {
        return Err(Error::corpus_line(path, 1, format!("no column `{}`", theirs(options, renamed))));
    }
    if let Some(twice) = header.iter().enumerate().find(|(i, name)| header.iter().take(*i).any(|known| known == *name))
    {
        return Err(Error::corpus_line(path, 1, format!("column `{}` is there twice", twice.1)));
    }
    let mut rows = Vec::new();
    for (number, record) in reader.records().enumerate() {
        let record = record.map_err(malformed)?;
        let line = record.position().map(|position| position.line() as usize);
        let place = Place { path: path.to_owned(), line, row: TableRow { table, row: number }, name: None };
        let cell = |ours: &str| {
            let value = place_of(ours).and_then(|column| record.get(column));
            Ok(value.filter(|value| !value.is_empty()).map(str::to_owned))
        };
        rows.push(row(place, options, has_offsets, cell)?);
    }
    Ok(rows)
}

fn json_rows(path: &Path, table: usize, text: &str, options: &ReadOptions) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (number, (line, content)) in lines(text).enumerate() {
        let place = Place { path: path.to_owned(), line: Some(line), row: TableRow { table, row: number }, name: None };
        let object = match serde_json::from_str::<Value>(content) {
            Ok(Value::Object(object)) => object,
            Ok(_) => return Err(place.error("is not a JSON object".into())),
            Err(error) => return Err(place.error(format!("is not valid JSON: {error}"))),
        };
        let cell = |ours: &str| match object.get(theirs(options, ours)) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(value)) => Ok(Some(value.clone()).filter(|value| !value.is_empty())),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(Some(value.to_string())),
            Some(Value::Array(_) | Value::Object(_)) => {
                let message = format!("`{}` must be a string or a number", theirs(options, ours));
                Err(Error::corpus_line(path, line, message))
            }
        };
        rows.push(row(place.clone(), options, false, cell)?);
    }
    Ok(rows)
}
