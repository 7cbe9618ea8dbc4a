//! The interface of a corpus format.

use std::path::PathBuf;

use super::corpus::{Corpus, ReadOptions};
use crate::Result;

/// A corpus format: each reader's file declares it as a constant.
pub(super) struct Reader {
    /// The fields of [`ReadOptions`] that it takes; any other is an error.
    pub takes: &'static [&'static str],
    /// A corpus from the name of the format, paths (at least one) and options.
    pub read: fn(&str, &[PathBuf], &ReadOptions) -> Result<Corpus>,
}
