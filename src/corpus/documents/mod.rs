//! Documents with annotated entities, for training and prediction: PubTator, BioC (XML and JSON),
//! brat, BioNLP, DrugProt's tables, and the exports of annotation tools.
//!
//! ```text
//! files -> Record (bytes of one document) -> Document -> sentences with candidate pairs of mentions
//!                                                     or whole text with candidate pairs of concepts
//! ```
//!
//! The readers are ours, although the Python library `bioc` reads three of the formats, because a
//! million abstracts are read as a stream while the engine computes: record by record, in parallel,
//! with file and line in every message. A malformed document costs only itself, not the file. The
//! tests compare with `bioc`.
//!
//! Rules for all formats:
//!
//! * Offsets are checked against the mentions' texts. They count characters. If characters do not
//!   fit but UTF-16 code units or UTF-8 bytes fit all mentions of a document, those are converted
//!   and reported as repaired. A document whose offsets fit in no unit is refused.
//! * Sentences are those of the file, if it has any (BioC). Otherwise they are found by rule
//!   ([`super::split_sentences`]) in each passage, and a blank line ends one too. A segment of a
//!   mention is never cut: the sentences around it are joined.
//! * A mention in several segments extends from its first to its last character. One whose segments
//!   are in different sentences forms no pair and is reported.

mod bytes;
mod companion;
mod concepts;
mod dictionary;
mod document;
mod formats;
mod gold;
mod inputs;
mod json_records;
mod offsets;
mod readers;
mod records;
mod sentences;
mod table_names;
mod table_records;
mod whole;
mod xml_records;

pub use companion::Companion;
pub use concepts::Concept;
pub use dictionary::{Dictionary, Found, Term, TermCase};
pub use document::{Argument, Document, Mention, Origin, Passage, Predicted, Relation};
pub use formats::{relation_lines, write_collection, write_document, write_files};
pub(super) use gold::of_documents;
pub use inputs::{DocumentFormat, Input, SkippedFile, list_inputs, list_texts};
pub(super) use readers::{
    BC5CDR, BIGBIO, BIOC, BIONLP, BIORED, BRAT, DRUGPROT, INCEPTION, LABEL_STUDIO, PRODIGY, PUBTATOR,
};
pub use records::{Record, RecordResult, Records};
pub use sentences::DocumentSentence;
pub use whole::{ConceptCandidate, WholeText};
