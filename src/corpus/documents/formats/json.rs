//! What the formats in JSON share.

use serde_json::Value;

use super::super::records::Record;
use crate::{Error, Result};

/// A part of a document, or what is wrong with it; the caller adds file and line.
pub(super) type Parsed<T> = std::result::Result<T, String>;

/// The value of a document, from its text.
pub(super) fn parse(raw: &str, record: &Record) -> Result<Value> {
    serde_json::from_str(raw).map_err(|error| {
        let line = record.line + error.line().saturating_sub(1);
        Error::corpus_line(&*record.path, line, format!("is not well-formed JSON: {error}"))
    })
}

/// The value of a document's original text, to be written again.
pub(super) fn reparse(raw: &str, path: &std::path::Path) -> Result<Value> {
    serde_json::from_str(raw)
        .map_err(|error| Error::corpus(path, format!("its original text cannot be written: {error}")))
}

/// The elements of a list; none for anything else.
pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A string, or a number in its original notation.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A whole number from 0.
pub(super) fn offset(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|number| usize::try_from(number).ok())
}

/// One document per line.
pub(super) fn lines(documents: &[String]) -> String {
    documents.iter().map(|document| format!("{}\n", document.replace('\n', " "))).collect()
}
