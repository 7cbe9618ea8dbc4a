//! The formats of documents: one file per format, which parses and writes it, and what BioC's two
//! encodings (XML and JSON) share.

mod bigbio;
mod bioc;
mod bioc_json;
mod bioc_locations;
mod bioc_record;
mod bioc_xml;
mod bionlp;
mod brat;
mod drugprot;
mod flat;
mod inception;
mod json;
mod label_studio;
mod plain_text;
mod prodigy;
mod pubtator;
mod standoff;

pub use pubtator::relation_lines;

use super::document::{Document, Predicted};
use super::inputs::DocumentFormat;
use super::records::Record;
use crate::{Error, Result};

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
            DocumentFormat::Bionlp => bionlp::parse(record),
            DocumentFormat::Drugprot => drugprot::parse(record),
            DocumentFormat::Prodigy => prodigy::parse(record),
            DocumentFormat::Bigbio => bigbio::parse(record),
            DocumentFormat::LabelStudio => label_studio::parse(record),
            DocumentFormat::Inception => inception::parse(record),
            DocumentFormat::Text => plain_text::parse(record),
        }
    }
}

/// A document with relations added. If it was read in the same format, its original text is
/// kept; otherwise it is written from its parsed contents. Of a format with several files it is the
/// one with the relations: brat's `.ann`, BioNLP's `.a2`, DrugProt's table of relations;
/// [`write_files`] has all of them.
///
/// # Errors
/// [`crate::Error::Corpus`] for a document that the format cannot represent, [`crate::Error::Config`]
/// for a format that is only read.
pub fn write_document(document: &Document, predicted: &[Predicted], format: DocumentFormat) -> Result<String> {
    let original = original(document, format);
    match format {
        DocumentFormat::Pubtator => pubtator::write(document, predicted, original),
        DocumentFormat::BiocJson => bioc_json::write(document, predicted, original),
        DocumentFormat::BiocXml => bioc_xml::write(document, predicted, original),
        DocumentFormat::Brat => brat::write(document, predicted, original),
        DocumentFormat::Bionlp => bionlp::write(document, predicted, original),
        DocumentFormat::Drugprot => drugprot::write(document, predicted).map(|rows| rows.relations),
        DocumentFormat::Prodigy => prodigy::write(document, predicted, original),
        DocumentFormat::Bigbio => bigbio::write(document, predicted, original),
        DocumentFormat::LabelStudio => label_studio::write(document, predicted, original),
        DocumentFormat::Inception | DocumentFormat::Text => Err(only_read(format)),
    }
}

fn only_read(format: DocumentFormat) -> Error {
    let writable = DocumentFormat::ALL.into_iter();
    let writable = writable.filter(|one| !matches!(one, DocumentFormat::Inception | DocumentFormat::Text));
    let names: Vec<_> = writable.map(DocumentFormat::name).collect();
    Error::config("format", format!("`{format}` is only read; choose one of {}", names.join(", ")))
}

/// The original text of a document that was read in a format.
fn original(document: &Document, format: DocumentFormat) -> Option<&str> {
    document.origin.raw.as_ref().filter(|(own, _)| *own == format).map(|(_, raw)| raw.as_str())
}

/// The files of a document in a format with several per document or table: the end of each name, and
/// what it has of the document; none for a format with one file.
///
/// # Errors
/// As [`write_document`].
pub fn write_files(
    document: &Document,
    predicted: &[Predicted],
    format: DocumentFormat,
) -> Result<Vec<(&'static str, String)>> {
    match format {
        DocumentFormat::Brat => {
            Ok(vec![(".txt", document.text()), (".ann", write_document(document, predicted, format)?)])
        }
        DocumentFormat::Bionlp => {
            let entities = bionlp::write_entities(document, original(document, format).is_some())?;
            let relations = write_document(document, predicted, format)?;
            Ok(vec![(".txt", document.text()), (".a1", entities), (".a2", relations)])
        }
        DocumentFormat::Drugprot => {
            let drugprot::Rows { abstracts, entities, relations } = drugprot::write(document, predicted)?;
            Ok(vec![("_abstracs.tsv", abstracts), ("_entities.tsv", entities), ("_relations.tsv", relations)])
        }
        _ => Ok(Vec::new()),
    }
}

/// A file of documents from [`write_document`]. `header` is what their original file had before the
/// first document.
pub fn write_collection(format: DocumentFormat, header: &str, documents: &[String]) -> String {
    match format {
        DocumentFormat::BiocJson => bioc_json::collection(header, documents),
        DocumentFormat::BiocXml => bioc_xml::collection(header, documents),
        DocumentFormat::Prodigy | DocumentFormat::Bigbio => json::lines(documents),
        DocumentFormat::LabelStudio => label_studio::collection(documents),
        DocumentFormat::Pubtator
        | DocumentFormat::Brat
        | DocumentFormat::Bionlp
        | DocumentFormat::Drugprot
        | DocumentFormat::Inception
        | DocumentFormat::Text => documents.concat(),
    }
}
