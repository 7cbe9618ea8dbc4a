//! The formats of documents: a file for each, and what the two spellings of BioC share.

pub(super) mod bioc_json;
pub(super) mod bioc_xml;
pub(super) mod brat;
pub(super) mod pubtator;
