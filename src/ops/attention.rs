//! What the operations of attention take, and what they leave for their backward.

use crate::rng::Dropout;

/// How the tokens of a batch form sentences, and heads share the hidden vector.
#[derive(Debug, Clone, Copy)]
pub struct AttentionShape<'a> {
    /// Cumulative sequence lengths: where each sentence starts, and T at the end, `(sentences + 1)`.
    pub cu_seqlens: &'a [usize],
    /// Number of attention heads, N.
    pub heads: usize,
    /// How many tokens of each sentence are attended to, counted from its first, `(sentences)`; `None` for all of them. The
    /// others attend without being attended to, as padding does.
    pub valid_lengths: Option<&'a [usize]>,
}

impl<'a> AttentionShape<'a> {
    /// Where the first token of each sentence is, `(sentences)`.
    pub fn first_tokens(&self) -> &'a [usize] {
        &self.cu_seqlens[..self.cu_seqlens.len().saturating_sub(1)]
    }

    /// How many tokens of a sentence of `length` are attended to.
    pub fn valid_length(&self, sentence: usize, length: usize) -> usize {
        self.valid_lengths.map_or(length, |valid| valid[sentence])
    }
}

/// Elements between two rows of the attention-dropout counter: element `((token * N) + head) * ATTENTION_STRIDE + key`.
/// It is the longest sentence an encoder accepts.
pub const ATTENTION_STRIDE: usize = 512;

/// A layer's attention of which only the first token of each sentence is asked for.
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
    /// Of the probabilities; the masks are those of [`Ops::attention`](super::Ops::attention).
    pub dropout: Option<&'a Dropout>,
}

/// What an attention leaves for its backward.
pub enum SavedAttention<B, P> {
    /// Of [`Ops::attention`](super::Ops::attention).
    Full {
        /// Queries, keys and values of every token, `(T, 3H)`.
        qkv: B,
        /// As the engine keeps them.
        probabilities: P,
    },
    /// Of [`Ops::cls_attention`](super::Ops::cls_attention) without keys and values. With q, W_k and W_v those of one attention head:
    Cls {
        /// `q / sqrt(D)`, `(sentences, H)`.
        queries: B,
        /// What scores are products with: `W_kᵀ q / sqrt(D)`, `(sentences, N H)`.
        key_queries: B,
        /// Probabilities before dropout, `(T, N)`, negative where dropout zeroed one.
        probabilities: B,
        /// The input's mean by the probabilities after dropout, `(sentences, N H)`.
        mean: B,
    },
}
