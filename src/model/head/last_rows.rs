//! Where the tokens that a head reads are among the rows of the last layer.

use crate::encode::Batch;
use crate::model::encoder::OutputSpec;

/// The rows of the last layer that the encoder computes for a head.
pub struct LastRows {
    tokens: usize,
    /// See [`OutputSpec::rows`].
    rows: Option<Vec<usize>>,
}

impl LastRows {
    /// Those of a batch.
    pub fn new(spec: OutputSpec, batch: &Batch) -> Self {
        Self { tokens: batch.tokens(), rows: spec.rows(batch) }
    }

    /// Number of rows.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.rows.as_ref().map_or(self.tokens, Vec::len)
    }

    /// Whether the rows are exactly these tokens.
    pub fn are(&self, tokens: &[usize]) -> bool {
        self.rows.as_deref() == Some(tokens)
    }

    /// The row of each of the tokens.
    pub fn of(&self, tokens: &[usize]) -> Vec<usize> {
        let row = |token: &usize| match &self.rows {
            Some(rows) => rows.partition_point(|row| row < token),
            None => *token,
        };
        tokens.iter().map(row).collect()
    }
}
