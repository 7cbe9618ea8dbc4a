//! The formats of documents: one file for each, which parses and writes it, and what the two spellings of BioC share.

mod bioc;
mod bioc_json;
mod bioc_locations;
mod bioc_record;
mod bioc_xml;
mod brat;
mod pubtator;

pub use pubtator::relation_lines;

use super::document::{Document, Predicted};
use super::inputs::DocumentFormat;
use super::records::Record;
use crate::Result;

impl Document {
    /// Parse a record.
    ///
    /// # Errors
    /// [`crate::Error::Corpus`] with file and line.
    pub fn parse(record: Record) -> Result<Self> {
        match record.format {
            DocumentFormat::Pubtator => pubtator::parse(record),
            DocumentFormat::BiocJson => bioc_json::parse(record),
            DocumentFormat::BiocXml => bioc_xml::parse(record),
            DocumentFormat::Brat => brat::parse(record),
        }
    }
}

/// One document with relations added: as it stood in its file where that had the same format, else from what is known
/// of it. brat's text is [`Document::text`].
///
/// # Errors
/// [`crate::Error::Corpus`] for a document that the format cannot hold.
pub fn write_document(document: &Document, predicted: &[Predicted], format: DocumentFormat) -> Result<String> {
    let kept = document.origin.raw.as_ref().filter(|(own, _)| *own == format).map(|(_, raw)| raw.as_str());
    match format {
        DocumentFormat::Pubtator => pubtator::write(document, predicted, kept),
        DocumentFormat::BiocJson => bioc_json::write(document, predicted, kept),
        DocumentFormat::BiocXml => bioc_xml::write(document, predicted, kept),
        DocumentFormat::Brat => brat::write(document, predicted, kept),
    }
}

/// A file of documents that [`write_document`] wrote; `header` is what stood before the first of them where they were
/// read.
pub fn write_collection(format: DocumentFormat, header: &str, documents: &[String]) -> String {
    match format {
        DocumentFormat::Pubtator | DocumentFormat::Brat => documents.concat(),
        DocumentFormat::BiocJson => bioc_json::collection(header, documents),
        DocumentFormat::BiocXml => bioc_xml::collection(header, documents),
    }
}
