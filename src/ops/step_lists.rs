//! What the operations of a training step read besides arrays: identifiers, rows, work lists.

use std::borrow::Cow;
use std::ops::Range;

use super::{AttentionShape, Loss, Rotation, RowGroups, Targets};

/// What an operation will read; see [`Ops::prepare`](super::Ops::prepare).
#[derive(Debug)]
pub enum StepList<'a> {
    /// Of [`Ops::embed`](super::Ops::embed).
    Tokens {
        /// Words.
        ids: &'a [u32],
        /// Rows of the position table.
        positions: Cow<'a, [u32]>,
        /// Whether [`Ops::embed_backward`](super::Ops::embed_backward) follows.
        backward: bool,
    },
    /// Of [`Ops::attention`](super::Ops::attention) with hidden size H.
    Attention(AttentionShape<'a>, usize),
    /// Of [`Ops::rotary`](super::Ops::rotary) with hidden size H.
    Rotary(Rotation<'a>, usize),
    /// Of [`Ops::rows`](super::Ops::rows) and [`Ops::add_rows`](super::Ops::add_rows).
    Rows(Cow<'a, [usize]>),
    /// Of [`Ops::mean_rows`](super::Ops::mean_rows) of an array of so many rows, and of its backward.
    MeanRows(&'a RowGroups, usize),
    /// Of [`Ops::pool_words`](super::Ops::pool_words) over T tokens.
    Words {
        /// Of each instance.
        words: &'a [Range<usize>],
        /// T.
        tokens: usize,
        /// Whether the scores are [`WordScores::Pairs`](super::WordScores::Pairs).
        pairs: bool,
    },
    /// Of [`Ops::cross_entropy`](super::Ops::cross_entropy).
    Labels(&'a [u32], &'a Loss<'a>),
    /// Of [`Ops::classify`](super::Ops::classify) with so many labels.
    Targets(&'a Targets<'a>, usize),
}
