//! Arguments of the attention operations, and the activations that they save for their backward.

use std::ops::Range;

use crate::rng::Dropout;

/// How a batch is divided into sentences, and the hidden vector into heads.
#[derive(Debug, Clone, Copy)]
pub struct AttentionShape<'a> {
    /// Cumulative sequence lengths: where each sentence starts, and T at the end,
    /// `(sentences + 1)`.
    pub cu_seqlens: &'a [usize],
    /// Number of attention heads, N.
    pub heads: usize,
    /// How many tokens of each sentence are attended to, counted from its first, `(sentences)`;
    /// `None` for all of them. The others attend to these without being attended to, as padding
    /// does, unless they form groups.
    pub valid_lengths: Option<&'a [usize]>,
    /// The other tokens of a sentence form groups of this size, in their order: a token of a group
    /// also attends to the tokens of its own group. 0: no groups.
    pub group: usize,
    /// How far tokens attend; `None`: to all valid tokens.
    pub window: Option<Window<'a>>,
    /// Elements between two rows of the counter of the attention's dropout: element
    /// `((token * N) + head) * stride + column` (see [`AttentionShape::column`]). A multiple of 4, and no
    /// less than the columns of any row.
    pub stride: usize,
}

/// Local attention: a token attends to the valid tokens whose position differs from its own by at most
/// a distance (Beltagy et al. 2020). Padding has no such limit.
#[derive(Debug, Clone, Copy)]
pub struct Window<'a> {
    /// The largest difference.
    pub distance: usize,
    /// The position of each token, `(T)`; that of a valid token is its index in the sentence.
    pub positions: &'a [u32],
}

impl<'a> AttentionShape<'a> {
    /// Every token of a sentence attends to every other.
    pub const fn plain(cu_seqlens: &'a [usize], heads: usize) -> Self {
        Self { cu_seqlens, heads, valid_lengths: None, group: 0, window: None, stride: SHORTEST_STRIDE }
    }

    /// The index of the first token of each sentence, `(sentences)`.
    pub fn first_tokens(&self) -> &'a [usize] {
        &self.cu_seqlens[..self.cu_seqlens.len().saturating_sub(1)]
    }

    /// How many tokens of a sentence of `length` are attended to.
    pub fn valid_length(&self, sentence: usize, length: usize) -> usize {
        self.valid_lengths.map_or(length, |valid| valid[sentence])
    }

    /// The valid tokens that token `query` of the sentence from token `start` attends to, of which the
    /// first `valid` are valid.
    pub fn keys(&self, start: usize, valid: usize, query: usize) -> Range<usize> {
        match self.window {
            Some(Window { distance, positions }) if query < valid || self.group > 0 => {
                let at = positions[start + query] as usize;
                let end = valid.min(at + distance + 1);
                at.saturating_sub(distance).min(end)..end
            }
            _ => 0..valid,
        }
    }

    /// Whether token `query` attends to token `key`, as in [`AttentionShape::keys`].
    pub fn attends(&self, start: usize, valid: usize, query: usize, key: usize) -> bool {
        let same_group = || query >= valid && (query - valid) / self.group == (key - valid) / self.group;
        match key < valid {
            true => self.keys(start, valid, query).contains(&key),
            false => self.group > 0 && same_group(),
        }
    }

    /// The column of `key` among the keys of any token that attends to it: the valid tokens come
    /// first, then the token's own group.
    pub fn column(&self, valid: usize, key: usize) -> usize {
        if key < valid || self.group == 0 { key } else { valid + (key - valid) % self.group }
    }
}

/// The stride of encoders of up to 512 positions, so that their masks do not depend on how many of them
/// they have.
pub const SHORTEST_STRIDE: usize = 512;

/// A layer's attention, computed for the first token of each sentence only.
pub struct ClsAttention<'a, B> {
    /// `(T, H)`.
    pub input: &'a B,
    /// Of queries, keys and values, `(3H, H)`.
    pub weight: &'a B,
    /// Of queries, keys and values, `(3H)`.
    pub bias: &'a B,
    /// H.
    pub hidden: usize,
    /// No sentence may be without tokens.
    pub shape: AttentionShape<'a>,
    /// Dropout of the probabilities; the masks are those of
    /// [`Ops::attention`](super::Ops::attention).
    pub dropout: Option<&'a Dropout>,
}

/// The activations that an attention saves for its backward.
pub enum SavedAttention<B, P> {
    /// Of [`Ops::attention`](super::Ops::attention).
    Full {
        /// Queries, keys and values of every token, `(T, 3H)`.
        qkv: B,
        /// In the engine's own form.
        probabilities: P,
    },
    /// Of [`Ops::cls_attention`](super::Ops::cls_attention) without keys and values. With q, W_k
    /// and W_v those of one attention head:
    Cls {
        /// `q / sqrt(D)`, `(sentences, H)`.
        queries: B,
        /// The queries in the space of the inputs, `W_kᵀ q / sqrt(D)`, `(sentences, N H)`: their
        /// products with the inputs are the scores.
        key_queries: B,
        /// Probabilities before dropout, `(T, N)`, negative where dropout zeroed one.
        probabilities: B,
        /// The inputs weighted by the probabilities after dropout, `(sentences, N H)`.
        mean: B,
    },
}
