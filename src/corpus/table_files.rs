//! Reading a user's table from TSV, CSV (with a header, quoted where needed) or JSON lines.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::files::{Tree, has_extension, lines};
use super::reader::Reader;
use super::table::build;
use super::table_row::{OFFSETS, Row, RowArgument, RowLocation};
use super::{Corpus, ReadOptions, Span, TableRow};
use crate::{Error, Result};

/// The required columns, apart from the [`OFFSETS`], which tags can replace.
const REQUIRED: [&str; 2] = ["text", "label"];
/// The optional columns.
const OPTIONAL: [&str; 9] =
    ["id", "document", "sentence", "entity1", "entity2", "entity1_type", "entity2_type", "split", "fold"];

pub(super) const READER: Reader =
    Reader { takes: &["columns", "labels", "negative", "name"], read: |_, paths, options| read(paths, options) };

/// Read one or several tables. Of several files, one without a `split` column is a split with the
/// name of the file.
fn read(paths: &[PathBuf], options: &ReadOptions) -> Result<Corpus> {
    let known: Vec<&str> = REQUIRED.into_iter().chain(OFFSETS).chain(OPTIONAL).collect();
    if let Some(unknown) = options.columns.keys().find(|ours| !known.contains(&ours.as_str())) {
        let known = known.join(", ");
        return Err(Error::config("columns", format!("`{unknown}` is not a column of a table; choose from {known}")));
    }
    let trees = paths.iter().map(|path| Tree::open(path)).collect::<Result<Vec<_>>>()?;
    let files: Vec<(&Tree, &String)> =
        trees.iter().flat_map(|tree| tree.names().iter().map(move |name| (tree, name))).collect();
    let mut rows = Vec::new();
    for (table, (tree, name)) in files.iter().enumerate() {
        let location = tree.path_of(name);
        let text = tree.read(name)?;
        let mut some = if has_extension(name, "jsonl") || has_extension(name, "ndjson") {
            json_rows(&location, table, &text, options)?
        } else if has_extension(name, "csv") {
            delimited_rows(&location, table, &text, b',', options)?
        } else if has_extension(name, "tsv") || has_extension(name, "txt") {
            delimited_rows(&location, table, &text, b'\t', options)?
        } else {
            return Err(Error::corpus(location, "is not a table; its name must end in .tsv, .csv or .jsonl"));
        };
        if files.len() > 1 {
            let stem = Path::new(name).file_stem().unwrap_or_default().to_string_lossy().into_owned();
            some.iter_mut().filter(|row| row.split.is_none()).for_each(|row| row.split = Some(stem.clone()));
        }
        rows.extend(some);
    }
    build(rows, options, paths[0].clone())
}

/// The user's name for one of our columns.
fn user_name<'a>(options: &'a ReadOptions, ours: &'a str) -> &'a str {
    options.columns.get(ours).map_or(ours, String::as_str)
}

/// A row, from a function that looks up a column by our name. Its offsets may be missing if the
/// table has no such columns.
fn row(
    location: RowLocation,
    options: &ReadOptions,
    has_offsets: bool,
    cell: impl Fn(&str) -> Result<Option<String>>,
) -> Result<Row> {
    let required = |ours: &str| {
        cell(ours)?.ok_or_else(|| location.error(format!("column `{}` is missing or empty", user_name(options, ours))))
    };
    let number = |ours: &str, value: String| {
        // pandas writes whole numbers of a column with gaps as 3.0.
        let digits = value.trim().strip_suffix(".0").unwrap_or(value.trim());
        digits.parse::<usize>().map_err(|_| {
            location.error(format!("column `{}`: `{value}` is not a whole number", user_name(options, ours)))
        })
    };
    let offset = |ours: &str| required(ours).and_then(|value| number(ours, value));
    let has_offsets =
        has_offsets || OFFSETS.iter().map(|ours| cell(ours)).collect::<Result<Vec<_>>>()?.iter().any(Option::is_some);
    let argument = |which: &str| -> Result<RowArgument> {
        let span = match has_offsets {
            true => Some(Span::new(offset(&format!("{which}_start"))?, offset(&format!("{which}_end"))?)),
            false => None,
        };
        Ok(RowArgument { span, text: cell(which)?, entity_type: cell(&format!("{which}_type"))? })
    };
    Ok(Row {
        id: cell("id")?,
        document: cell("document")?,
        sentence: cell("sentence")?,
        text: required("text")?,
        label: required("label")?,
        arguments: [argument("entity1")?, argument("entity2")?],
        split: cell("split")?,
        fold: cell("fold")?.map(|value| number("fold", value)).transpose()?,
        location,
    })
}

fn delimited_rows(path: &Path, table: usize, text: &str, delimiter: u8, options: &ReadOptions) -> Result<Vec<Row>> {
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(text.as_bytes());
    let malformed = |error: csv::Error| {
        let line = error.position().map_or(1, |position| position.line() as usize);
        let message = match error.kind() {
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                format!("has {len} columns where the header has {expected_len}; is a quote or a tab misplaced?")
            }
            _ => error.to_string(),
        };
        Error::corpus_line(path, line, message)
    };
    let header = reader.headers().map_err(malformed)?.clone();
    let index_of = |ours: &str| header.iter().position(|name| name == user_name(options, ours));
    let has_offsets = OFFSETS.iter().any(|ours| index_of(ours).is_some());
    let mut required = REQUIRED.into_iter().chain(OFFSETS.into_iter().filter(|_| has_offsets));
    if let Some(missing) = required.find(|ours| index_of(ours).is_none()) {
        let there = header.iter().collect::<Vec<_>>().join(", ");
        let message = format!("no column `{}`; the columns are {there}", user_name(options, missing));
        return Err(Error::corpus_line(path, 1, message));
    }
    if let Some(renamed) = options.columns.keys().find(|ours| index_of(ours).is_none()) {
        return Err(Error::corpus_line(path, 1, format!("no column `{}`", user_name(options, renamed))));
    }
    if let Some(twice) = header.iter().enumerate().find(|(i, name)| header.iter().take(*i).any(|known| known == *name))
    {
        return Err(Error::corpus_line(path, 1, format!("column `{}` appears twice", twice.1)));
    }
    let mut rows = Vec::new();
    for (number, record) in reader.records().enumerate() {
        let record = record.map_err(malformed)?;
        let line = record.position().map(|position| position.line() as usize);
        let location = RowLocation { path: path.to_owned(), line, row: TableRow { table, row: number }, name: None };
        let cell = |ours: &str| {
            let value = index_of(ours).and_then(|column| record.get(column));
            Ok(value.filter(|value| !value.is_empty()).map(str::to_owned))
        };
        rows.push(row(location, options, has_offsets, cell)?);
    }
    Ok(rows)
}

fn json_rows(path: &Path, table: usize, text: &str, options: &ReadOptions) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (number, (line, content)) in lines(text).enumerate() {
        let location =
            RowLocation { path: path.to_owned(), line: Some(line), row: TableRow { table, row: number }, name: None };
        let object = match serde_json::from_str::<Value>(content) {
            Ok(Value::Object(object)) => object,
            Ok(_) => return Err(location.error("is not a JSON object".into())),
            Err(error) => return Err(location.error(format!("is not valid JSON: {error}"))),
        };
        let cell = |ours: &str| match object.get(user_name(options, ours)) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(value)) => Ok(Some(value.clone()).filter(|value| !value.is_empty())),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(Some(value.to_string())),
            Some(Value::Array(_) | Value::Object(_)) => {
                let message = format!("`{}` must be a string or a number", user_name(options, ours));
                Err(Error::corpus_line(path, line, message))
            }
        };
        rows.push(row(location.clone(), options, false, cell)?);
    }
    Ok(rows)
}
