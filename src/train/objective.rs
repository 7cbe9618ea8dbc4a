//! What a training run minimises: the loss of a relation classifier, or of a masked language model.

use std::fmt::Debug;

use super::evaluation::{Dev, Evaluation};
use crate::encode::{Batch, Features};
use crate::model::encoder::ForwardContext;
use crate::model::network::Gradient;
use crate::model::{EncoderConfig, MaskedLm, Network};
use crate::ops::{Loss, Ops};
use crate::predict::{OnBatch, fill_cache};
use crate::{Error, Result};

/// A network and its loss. The parameters of its encoder come first.
pub trait Objective: Debug + Send + Sync {
    /// The encoder's sizes.
    fn encoder(&self) -> &EncoderConfig;

    /// Number of labels that can be weighted.
    fn labels(&self) -> usize;

    /// The batch of some texts; its labels are the terms of the loss. `number` separates the batches
    /// of a run.
    fn pack<'a>(&self, features: impl IntoIterator<Item = &'a Features>, number: u32) -> Batch;

    /// Compute and keep what does not change while the encoder is frozen.
    ///
    /// # Errors
    /// Errors of the engine, and whatever `on_batch` returns.
    fn prepare<O: Ops>(
        &self,
        ops: &O,
        params: &[O::Buffer],
        features: &[Features],
        on_batch: OnBatch<'_>,
    ) -> Result<()>;

    /// The loss of a batch and its gradient with respect to every parameter, in order.
    ///
    /// # Errors
    /// Errors of the engine; [`Error::Config`] for a batch that does not fit.
    fn gradient<O: Ops>(
        &self,
        ops: &O,
        params: &[O::Buffer],
        batch: &Batch,
        context: &ForwardContext,
        loss: &Loss<'_>,
    ) -> Result<Gradient<O::Buffer>>;

    /// Score `params` on held-out data. `at` is the step and the epoch.
    ///
    /// # Errors
    /// Errors of the engine, and whatever `on_batch` returns.
    fn evaluate<O: Ops>(
        &self,
        ops: &O,
        params: &[O::Buffer],
        dev: &Dev<'_>,
        at: (usize, usize),
        on_batch: OnBatch<'_>,
    ) -> Result<Evaluation>;
}

impl Objective for Network {
    fn encoder(&self) -> &EncoderConfig {
        &self.encoder
    }

    fn labels(&self) -> usize {
        self.labels
    }

    fn pack<'a>(&self, features: impl IntoIterator<Item = &'a Features>, _: u32) -> Batch {
        Network::pack(self, features)
    }

    fn prepare<O: Ops>(
        &self,
        ops: &O,
        params: &[O::Buffer],
        features: &[Features],
        on_batch: OnBatch<'_>,
    ) -> Result<()> {
        fill_cache(ops, self, params, features, on_batch)
    }

    fn gradient<O: Ops>(
        &self,
        ops: &O,
        params: &[O::Buffer],
        batch: &Batch,
        context: &ForwardContext,
        loss: &Loss<'_>,
    ) -> Result<Gradient<O::Buffer>> {
        Network::gradient(self, ops, params, batch, context, loss)
    }

    fn evaluate<O: Ops>(
        &self,
        ops: &O,
        params: &[O::Buffer],
        dev: &Dev<'_>,
        at: (usize, usize),
        on_batch: OnBatch<'_>,
    ) -> Result<Evaluation> {
        dev.evaluate(ops, self, params, at, on_batch)
    }
}

impl Objective for MaskedLm {
    fn encoder(&self) -> &EncoderConfig {
        &self.encoder
    }

    fn labels(&self) -> usize {
        self.encoder.vocab_size
    }

    fn pack<'a>(&self, features: impl IntoIterator<Item = &'a Features>, number: u32) -> Batch {
        MaskedLm::pack(self, features, number)
    }

    /// Nothing: the pieces that are masked differ in every step.
    fn prepare<O: Ops>(&self, _: &O, _: &[O::Buffer], _: &[Features], _: OnBatch<'_>) -> Result<()> {
        Ok(())
    }

    fn gradient<O: Ops>(
        &self,
        ops: &O,
        params: &[O::Buffer],
        batch: &Batch,
        context: &ForwardContext,
        loss: &Loss<'_>,
    ) -> Result<Gradient<O::Buffer>> {
        MaskedLm::gradient(self, ops, params, batch, context, loss)
    }

    fn evaluate<O: Ops>(
        &self,
        _: &O,
        _: &[O::Buffer],
        _: &Dev<'_>,
        _: (usize, usize),
        _: OnBatch<'_>,
    ) -> Result<Evaluation> {
        Err(Error::config(
            "dev",
            "a language model has no relations to score; its perplexity is measured after training",
        ))
    }
}
