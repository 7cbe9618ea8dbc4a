//! brat's standoff format ([`super::standoff`]): a text file, and an annotation file. Events are
//! reported as skipped.

use std::fmt::Write as _;

use super::standoff::{self, Events, last_relation, mention_lines, relation_lines, word};
use crate::Result;
use crate::corpus::documents::companion::Companion;
use crate::corpus::documents::document::{Document, Origin, Predicted};
use crate::corpus::documents::inputs::DocumentFormat;
use crate::corpus::documents::records::Record;

pub(super) fn parse(record: Record) -> Result<Document> {
    let raw = Record::decode(record.raw, &record.path, record.line)?;
    let text = record.companions.first().map(Companion::text).transpose()?.unwrap_or_default();
    let name = record.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let id = name.strip_suffix(".ann").unwrap_or(name).to_owned();
    let mut document = standoff::parse(id, text, &[(&record.path, &raw)], Events::Skip)?;
    let path = record.path.to_path_buf();
    document.origin = Origin { path, line: 1, raw: Some((DocumentFormat::Brat, raw)), header: String::new() };
    Ok(document)
}

/// The annotation file. brat cannot represent a relation between concepts; it stays in the original
/// text only.
pub(super) fn write(document: &Document, predicted: &[Predicted], original: Option<&str>) -> Result<String> {
    let mut text = match original {
        Some(raw) if raw.is_empty() || raw.ends_with('\n') => raw.to_owned(),
        Some(raw) => format!("{raw}\n"),
        None => mention_lines(document)? + &relation_lines(document),
    };
    let first = last_relation(&text);
    let name = |index: usize| match original {
        Some(_) => document.mentions[index].id.clone(),
        None => format!("T{}", index + 1),
    };
    for (number, one) in predicted.iter().enumerate() {
        let id = first + number + 1;
        let [first, second] = one.mentions.map(name);
        let _ = writeln!(text, "R{id}\t{} Arg1:{first} Arg2:{second}", word(one.label));
        let _ = writeln!(text, "#{id}\tAnnotatorNotes R{id}\t{:.4} {}", one.probability, one.model);
    }
    Ok(text)
}
