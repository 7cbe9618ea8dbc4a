//! Arguments of the attention operations, and the activations that they save for their backward.

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
}

impl<'a> AttentionShape<'a> {
    /// The index of the first token of each sentence, `(sentences)`.
    pub fn first_tokens(&self) -> &'a [usize] {
        &self.cu_seqlens[..self.cu_seqlens.len().saturating_sub(1)]
    }

    /// How many tokens of a sentence of `length` are attended to.
    pub fn valid_length(&self, sentence: usize, length: usize) -> usize {
        self.valid_lengths.map_or(length, |valid| valid[sentence])
    }

    /// Whether token `query` of a sentence attends to its token `key`, of which the first `valid`
    /// are valid.
    pub fn attends(&self, valid: usize, query: usize, key: usize) -> bool {
        let same_group = || query >= valid && (query - valid) / self.group == (key - valid) / self.group;
        key < valid || (self.group > 0 && same_group())
    }

    /// The column of `key` among the keys of any token that attends to it: the valid tokens come
    /// first, then the token's own group.
    pub fn column(&self, valid: usize, key: usize) -> usize {
        if key < valid || self.group == 0 { key } else { valid + (key - valid) % self.group }
    }
}

/// Elements between two rows of the attention-dropout counter: element
/// `((token * N) + head) * ATTENTION_STRIDE + column` (see [`AttentionShape::column`]). It is the
/// longest sentence an encoder accepts.
pub const ATTENTION_STRIDE: usize = 512;

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
