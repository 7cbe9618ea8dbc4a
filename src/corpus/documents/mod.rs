//! Whole documents with marked entities: PubTator, BioC (XML and JSON) and brat, for training and for prediction.
//!
//! ```text
//! files -> Record (bytes of one document) -> Document -> sentences with candidate pairs
//! ```
//!
//! The readers are here and not in a Python library (`bioc` would read three of the formats), because a million abstracts
//! are read in a stream beside the computation: one record at a time, in parallel, with file and line in every message,
//! and a document that cannot be read is one document lost and not the file. The tests compare with `bioc`.
//!
//! Rules that hold for all formats:
//!
//! * Offsets are checked against the mentions' texts. They count characters; where that fits nowhere in a document but
//!   UTF-16 code units or UTF-8 bytes fit everywhere, those are converted, and reported as repaired. A document with
//!   offsets that fit in no way is refused.
//! * Sentences are those of the file where it has any (BioC), else found by rule ([`super::split_sentences`]) in each
//!   passage; a blank line ends one too. A segment of a mention is never cut: the sentences that it would cut are one.
//! * A mention in several segments stands from its first to its last character. One whose segments lie in different
//!   sentences forms no pair, and is reported.

mod bytes;
mod concepts;
mod document;
mod formats;
mod gold;
mod inputs;
mod json_records;
mod offsets;
mod records;
mod sentences;
mod xml_records;

pub use document::{Argument, Document, Mention, Origin, Passage, Predicted, Relation};
pub use formats::{relation_lines, write_collection, write_document};
pub(super) use gold::{BIOC, BRAT, PUBTATOR, of_documents};
pub use inputs::{DocumentFormat, Input, SkippedFile, list_inputs};
pub use records::{Record, RecordResult, Records};
pub use sentences::DocumentSentence;
