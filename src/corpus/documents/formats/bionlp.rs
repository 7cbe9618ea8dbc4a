//! The format of the BioNLP shared tasks (GENIA, EPI, Bacteria Biotope): standoff annotation
//! ([`super::standoff`]) in two files. The `.a1` file has the given entities, the `.a2` file what a
//! system has to find: relations, events, their triggers, sometimes more entities. A test set has no
//! `.a2` file.
//!
//! An event of exactly two mentions is a relation with the event's type, such as `E1
//! Lives_In Bacterium:T1 Location:T2` or `E2 Binding:T5 Theme:T1 Theme2:T2`; its trigger is an
//! attribute. Events of one mention, of more than two, or of other events are reported as skipped.

use std::fmt::Write as _;

use super::standoff::{self, Events, last_relation, mention_lines, relation_lines, word};
use crate::Result;
use crate::corpus::documents::document::{Document, Origin, Predicted};
use crate::corpus::documents::inputs::DocumentFormat;
use crate::corpus::documents::records::Record;

pub(super) fn parse(record: Record) -> Result<Document> {
    let given = Record::decode(record.raw, &record.path, record.line)?;
    let mut companions = record.companions.iter();
    let text = companions.next().map(|companion| companion.text()).transpose()?.unwrap_or_default();
    let found = companions.next();
    let raw = found.map(|companion| companion.text()).transpose()?.unwrap_or_default();
    let mut files = vec![(&*record.path, given.as_str())];
    files.extend(found.map(|companion| (&*companion.path, raw.as_str())));
    let name = record.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let id = name.strip_suffix(".a1").unwrap_or(name).to_owned();
    let mut document = standoff::parse(id, text, &files, Events::Relate)?;
    let path = record.path.to_path_buf();
    // The `.a2` file: predicted relations are added to it.
    document.origin = Origin { path, line: 1, raw: Some((DocumentFormat::Bionlp, raw)), header: given };
    Ok(document)
}

/// The `.a1` file: the entities.
pub(super) fn write_entities(document: &Document, is_original: bool) -> Result<String> {
    match is_original {
        true => Ok(document.origin.header.clone()),
        false => mention_lines(document),
    }
}

/// The `.a2` file: the relations. One between concepts cannot be represented. The format has no
/// probabilities.
pub(super) fn write(document: &Document, predicted: &[Predicted], original: Option<&str>) -> Result<String> {
    let mut text = match original {
        Some(raw) if raw.is_empty() || raw.ends_with('\n') => raw.to_owned(),
        Some(raw) => format!("{raw}\n"),
        None => relation_lines(document),
    };
    let first = last_relation(&text);
    let name = |index: usize| match original {
        Some(_) => document.mentions[index].id.clone(),
        None => format!("T{}", index + 1),
    };
    for (number, one) in predicted.iter().enumerate() {
        let [first_name, second_name] = one.mentions.map(name);
        let id = first + number + 1;
        let _ = writeln!(text, "R{id}\t{} Arg1:{first_name} Arg2:{second_name}", word(one.label));
    }
    Ok(text)
}
