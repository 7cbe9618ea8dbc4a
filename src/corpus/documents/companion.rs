//! What a document has in other files than its record.

use std::path::Path;
use std::sync::Arc;

use crate::{Error, Result};

/// The part of a document that is in another file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Companion {
    /// The file.
    pub path: Arc<Path>,
    /// Its bytes, or the document's lines of it.
    pub raw: Vec<u8>,
    /// The number of each line in the file; empty if `raw` is the whole file.
    pub lines: Vec<usize>,
}

impl Companion {
    /// The text of a whole file, without a byte order mark.
    pub(super) fn text(&self) -> Result<String> {
        let text = decode(self.raw.clone(), &self.path, 1)?;
        Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
    }
}

/// Bytes of a file as text; `line` is the number of their first line.
pub(super) fn decode(bytes: Vec<u8>, path: &Path, line: usize) -> Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = line + valid.iter().filter(|&&byte| byte == b'\n').count();
        Error::corpus_line(path, line, "is not UTF-8; convert the file to UTF-8 first")
    })
}
