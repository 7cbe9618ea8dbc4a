//! The classifier of a head with its loss and its backward: the specification, which engines
//! without a faster implementation also call. candle differentiates it.

use candle_core::{Tensor, Var};
use candle_nn::{Linear, Module};

use super::shapes::expect;
use super::word_pooling::gradient_of;
use super::{Classified, Classifier, Ops, Targets};
use crate::{Error, Result};

/// What is added to the logits, `(n, labels)`, so that labels outside of an instance's group have
/// the probability 0 in f32: 0 inside of it and -1e9 outside.
fn outside(targets: &Targets<'_>, logits: &Tensor) -> Result<Tensor> {
    let labels = logits.dim(1)?;
    let row = |[first, end]: [u32; 2]| {
        (0..labels as u32).map(move |label| if (first..end).contains(&label) { 0.0 } else { -1e9_f32 })
    };
    let values: Vec<f32> = targets.ranges(labels)?.into_iter().flat_map(row).collect();
    Ok(Tensor::from_vec(values, logits.shape(), logits.device())?.to_dtype(logits.dtype())?)
}

/// The loss of logits, `(1)`, and a scalar of the logits from which candle's gradients continue: it
/// has the gradient of the loss, which the engine computes.
pub(crate) fn objective<O: Ops + ?Sized>(
    ops: &O,
    targets: &Targets<'_>,
    logits: &Tensor,
) -> Result<(O::Buffer, Tensor)> {
    let within = match targets.groups {
        [_] => None,
        _ => Some((logits + outside(targets, logits)?)?),
    };
    let logits = within.as_ref().unwrap_or(logits);
    let (loss, gradient) = ops.cross_entropy(&ops.upload_candle(&logits.detach())?, targets.labels, targets.loss)?;
    Ok((loss, (logits * ops.to_candle(&gradient)?)?.sum_all()?))
}

/// See [`Ops::classify`].
pub(super) fn classify<O: Ops + ?Sized>(
    ops: &O,
    of: &Classifier<'_, O::Buffer>,
    targets: &Targets<'_>,
) -> Result<Classified<O::Buffer>> {
    let leaf = |x: &O::Buffer| Ok::<_, Error>(Var::from_tensor(&ops.to_candle(x)?)?);
    let parts = of.parts.iter().map(|part| leaf(part)).collect::<Result<Vec<_>>>()?;
    let (weight, bias) = (leaf(of.weight)?, leaf(of.bias)?);
    let mut vectors = match parts.as_slice() {
        [part] => part.as_tensor().clone(),
        parts => Tensor::cat(&parts.iter().map(Var::as_tensor).collect::<Vec<_>>(), 1)?,
    };
    let (n, width) = vectors.dims2()?;
    expect("the weight of the classifier", weight.dims(), &[bias.elem_count(), width])?;
    targets.ranges(bias.elem_count())?;
    if let Some(dropout) = of.dropout {
        vectors = (vectors * ops.mask(dropout, n, width)?)?;
    }
    let linear = Linear::new(weight.as_tensor().clone(), Some(bias.as_tensor().clone()));
    let (loss, value) = objective(ops, targets, &linear.forward(&vectors)?)?;
    let gradients = value.backward()?;
    let of = |leaf: &Var| gradient_of(ops, &gradients, leaf);
    let parts = parts.iter().map(of).collect::<Result<_>>()?;
    Ok(Classified { loss, parts, weight: of(&weight)?, bias: of(&bias)? })
}
