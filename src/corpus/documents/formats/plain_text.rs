//! Plain text: a file is one document, named like the file, without entities. A blank line ends a
//! sentence.

use crate::Result;
use crate::corpus::documents::document::{Document, Origin, Passage};
use crate::corpus::documents::inputs::DocumentFormat;
use crate::corpus::documents::records::Record;

pub(super) fn parse(record: Record) -> Result<Document> {
    let raw = Record::decode(record.raw, &record.path, record.line)?;
    let text = raw.strip_prefix('\u{feff}').unwrap_or(&raw).to_owned();
    let name = record.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let mut document = Document { id: name.strip_suffix(".txt").unwrap_or(name).to_owned(), ..Document::default() };
    document.passages = vec![Passage { passage_type: String::new(), start: 0, text, sentence: false }];
    let path = record.path.to_path_buf();
    document.origin = Origin { path, line: 1, raw: Some((DocumentFormat::Text, raw)), header: String::new() };
    Ok(document)
}
