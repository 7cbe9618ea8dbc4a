//! Attention of each sentence's first token alone: the specification, and what engines without a shorter way do.

use super::shapes::defect;
use super::{AttentionShape, Ops};
use crate::Result;
use crate::rng::Dropout;

/// A layer's attention of which only the first token of each sentence is asked for.
pub struct FirstAttention<'a, B> {
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
    /// Of the probabilities; the masks are those of [`Ops::attention`].
    pub dropout: Option<&'a Dropout>,
}

/// What an attention leaves for its backward.
pub enum AttentionTape<B, P> {
    /// Of [`Ops::attention`].
    Whole {
        /// Queries, keys and values of every token, `(T, 3H)`.
        qkv: B,
        /// As the engine keeps them.
        probabilities: P,
    },
    /// Of [`Ops::attend_first`] without keys and values. With q, W_k and W_v those of one attention head:
    First {
        /// `q / sqrt(D)`, `(sentences, H)`.
        queries: B,
        /// What scores are products with: `W_kᵀ q / sqrt(D)`, `(sentences, N H)`.
        asked: B,
        /// Probabilities before dropout, `(T, N)`, negative where dropout zeroed one.
        probabilities: B,
        /// The input's mean by the probabilities after dropout, `(sentences, N H)`.
        mean: B,
    },
}

/// [`AttentionTape`] of an engine.
pub type TapeOf<O> = AttentionTape<<O as Ops>::Buffer, <O as Ops>::Probabilities>;

/// Rows of [`Ops::attention`].
pub(super) fn attend<O: Ops + ?Sized>(ops: &O, of: &FirstAttention<'_, O::Buffer>) -> Result<(O::Buffer, TapeOf<O>)> {
    let qkv = ops.linear(of.input, of.weight, Some(of.bias))?;
    let (attended, probabilities) = ops.attention(&qkv, of.shape, of.dropout)?;
    Ok((ops.rows(&attended, of.shape.first_tokens())?, AttentionTape::Whole { qkv, probabilities }))
}

/// Gradients of input, weight and bias.
pub(super) fn attend_backward<O: Ops + ?Sized>(
    ops: &O,
    of: &FirstAttention<'_, O::Buffer>,
    tape: TapeOf<O>,
    dy: &O::Buffer,
) -> Result<[O::Buffer; 3]> {
    let AttentionTape::Whole { qkv, probabilities } = tape else {
        return Err(defect("the tape of another engine's attention".into()));
    };
    let tokens = of.shape.starts.last().copied().unwrap_or(0);
    let dy = ops.add_rows(ops.zeros(&[tokens, of.hidden])?, of.shape.first_tokens(), dy)?;
    let d_qkv = ops.attention_backward(&qkv, probabilities, &dy, of.shape, of.dropout)?;
    let d_bias = ops.column_sum(&d_qkv)?;
    let (d_input, d_weight) = ops.linear_backward(of.input, of.weight, &d_qkv, None)?;
    Ok([d_input, d_weight, d_bias])
}
