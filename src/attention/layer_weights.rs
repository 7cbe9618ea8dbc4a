//! The weights that a head puts on the layers of the encoder.

use crate::encode::Instance;
use crate::model::RelationModel;
use crate::model::head::Weighs;
use crate::ops::compute::Compute;
use crate::predict::{OnBatch, Prediction, classify_instances};
use crate::{Error, Result};

/// The attention of one instance over the layers.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerWeights {
    /// Index of the instance among those given.
    pub instance: usize,
    /// Index of the label that the instance is predicted to have.
    pub predicted: usize,
    /// Weight of each layer, from the first above the embeddings; they sum to 1.
    pub weights: Vec<f32>,
}

/// The attention of every instance over the layers, in order. Instances that do not fit into the
/// model's length are left out.
///
/// # Errors
/// [`Error::Config`] for a head that does not weigh layers, and whatever `on_batch` returns.
pub fn layer_weights(
    model: &RelationModel,
    instances: &[Instance],
    compute: Compute,
    on_batch: OnBatch<'_>,
) -> Result<Vec<LayerWeights>> {
    let head = model.card.training.head;
    if head.weighs() != Weighs::Layers {
        let message = format!("`{head}` does not weigh layers; choose one that does ({})", Weighs::Layers.heads());
        return Err(Error::config("head", message));
    }
    let (encoded, predictions) = classify_instances(model, instances, compute, on_batch)?;
    let row = |(instance, one): (usize, Prediction)| {
        let predicted = one.label();
        LayerWeights { instance, predicted, weights: one.layers.unwrap_or_default() }
    };
    Ok(encoded.kept.into_iter().zip(predictions).map(row).collect())
}
