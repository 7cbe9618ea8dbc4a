//! The formats of documents: one file per format, which parses and writes it, and what BioC's two
//! encodings (XML and JSON) share.

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

/// A document with relations added. If it was read in the same format, its original text is
/// kept; otherwise it is written from its parsed contents. The text of a brat document is
/// [`Document::text`].
///
/// # Errors
/// [`crate::Error::Corpus`] for a document that the format cannot represent.
pub fn write_document(document: &Document, predicted: &[Predicted], format: DocumentFormat) -> Result<String> {
    let original = document.origin.raw.as_ref().filter(|(own, _)| *own == format).map(|(_, raw)| raw.as_str());
    match format {
        DocumentFormat::Pubtator => pubtator::write(document, predicted, original),
        DocumentFormat::BiocJson => bioc_json::write(document, predicted, original),
        DocumentFormat::BiocXml => bioc_xml::write(document, predicted, original),
        DocumentFormat::Brat => brat::write(document, predicted, original),
    }
}

/// A file of documents from [`write_document`]. `header` is what their original file had before the
/// first document.
pub fn write_collection(format: DocumentFormat, header: &str, documents: &[String]) -> String {
    match format {
        DocumentFormat::Pubtator | DocumentFormat::Brat => documents.concat(),
        DocumentFormat::BiocJson => bioc_json::collection(header, documents),
        DocumentFormat::BiocXml => bioc_xml::collection(header, documents),
    }
}
