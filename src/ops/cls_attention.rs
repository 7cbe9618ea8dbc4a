//! Attention of the first token of each sentence: the specification, which engines without a faster
//! implementation also call.

use super::shapes::internal_error;
use super::{ClsAttention, Ops, SavedAttention, SavedAttentionOf};
use crate::Result;

/// Rows of [`Ops::attention`].
pub(super) fn cls_attention<O: Ops + ?Sized>(
    ops: &O,
    of: &ClsAttention<'_, O::Buffer>,
) -> Result<(O::Buffer, SavedAttentionOf<O>)> {
    let qkv = ops.linear(of.input, of.weight, Some(of.bias))?;
    let (attended, probabilities) = ops.attention(&qkv, of.shape, of.dropout)?;
    Ok((ops.rows(&attended, of.shape.first_tokens())?, SavedAttention::Full { qkv, probabilities }))
}

/// Gradients of input, weight and bias.
pub(super) fn cls_attention_backward<O: Ops + ?Sized>(
    ops: &O,
    of: &ClsAttention<'_, O::Buffer>,
    tape: SavedAttentionOf<O>,
    dy: &O::Buffer,
) -> Result<[O::Buffer; 3]> {
    let SavedAttention::Full { qkv, probabilities } = tape else {
        return Err(internal_error("the tape of another engine's attention".into()));
    };
    let tokens = of.shape.cu_seqlens.last().copied().unwrap_or(0);
    let dy = ops.add_rows(ops.zeros(&[tokens, of.hidden])?, of.shape.first_tokens(), dy)?;
    let d_qkv = ops.attention_backward(&qkv, probabilities, &dy, of.shape, of.dropout)?;
    let d_bias = ops.column_sum(&d_qkv)?;
    let (d_input, d_weight) = ops.linear_backward(of.input, of.weight, &d_qkv, None)?;
    Ok([d_input, d_weight, d_bias])
}
