//! What a format of corpora provides.

use std::path::PathBuf;

use super::corpus::{Corpus, ReadOptions};
use crate::Result;

/// A format: a constant in the file that reads it.
pub(super) struct Reader {
    /// The fields of [`ReadOptions`] that mean something to it; others are refused.
    pub takes: &'static [&'static str],
    /// A corpus from the name of the format, paths (at least one) and options.
    pub read: fn(&str, &[PathBuf], &ReadOptions) -> Result<Corpus>,
}
