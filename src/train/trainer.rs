//! One optimizer step: gradients of its micro-batches, clipping, AdamW.

use super::evaluation::{Dev, Evaluation};
use super::objective::Objective;
use crate::config::{Freeze, TrainingSettings};
use crate::encode::{Batch, Features};
use crate::model::encoder::{ForwardContext, Frozen};
use crate::model::network::Gradient;
use crate::model::params::Layout;
use crate::model::{Network, ParamSpec, Weights};
use crate::ops::{AdamWStep, Loss, Moments, Ops, Pending, StepResult, Update};
use crate::predict::OnBatch;
use crate::{Error, Result};

/// A network on an engine with its optimizer.
pub struct Trainer<'a, O: Ops, M = Network> {
    ops: &'a O,
    network: &'a M,
    settings: TrainingSettings,
    class_weights: Option<Vec<f64>>,
    specs: Vec<ParamSpec>,
    params: Vec<O::Buffer>,
    /// `None` for frozen parameters.
    moments: Vec<Option<Moments<O::Buffer>>>,
    steps: u32,
}

/// A trainer's parameters and moments on the host.
pub struct Snapshot {
    /// Values of all parameters.
    pub params: Vec<Vec<f32>>,
    /// First and second moments; `None` for frozen parameters.
    pub moments: Vec<Option<[Vec<f32>; 2]>>,
    /// Steps taken.
    pub steps: u32,
}

impl<'a, O: Ops, M: Objective> Trainer<'a, O, M> {
    /// Upload `weights` to the engine, with moments of zero.
    ///
    /// # Errors
    /// [`Error::Config`] when more layers are to be frozen than the encoder has; errors of the
    /// engine.
    pub fn new(
        ops: &'a O,
        network: &'a M,
        weights: &Weights,
        settings: TrainingSettings,
        class_weights: Option<Vec<f64>>,
    ) -> Result<Self> {
        let layers = network.encoder().num_hidden_layers;
        if matches!(settings.freeze, Some(Freeze::Layers(frozen)) if frozen > layers) {
            return Err(Error::config("freeze", format!("the encoder has {layers} layers")));
        }
        let trained = trained(&settings, network, weights.specs.len());
        let zeros = |(spec, trained): (&ParamSpec, bool)| match trained {
            true => Ok(Some(Moments { m: ops.zeros(&spec.shape)?, v: ops.zeros(&spec.shape)? })),
            false => Ok(None),
        };
        let moments = weights.specs.iter().zip(trained).map(zeros).collect::<Result<_>>()?;
        let params = weights.upload(ops)?;
        Ok(Self { ops, network, settings, class_weights, specs: weights.specs.clone(), params, moments, steps: 0 })
    }

    /// One optimizer step on the instances of all `batches` together. Returns their loss, and the
    /// gradient's global norm before clipping. On a GPU the step is only enqueued, and the result
    /// is pending.
    ///
    /// # Errors
    /// Errors of the engine. The pending result is [`Error::Training`] when loss or norm is not
    /// finite; the weights are then unchanged.
    pub fn step(&mut self, batches: &[Batch], learning_rate: f64) -> Result<Pending<StepResult>> {
        let (loss, gradients) = self.gradient(batches)?;
        let ops = self.ops;
        self.steps += 1;
        let settings = &self.settings;
        let number = self.steps as i32;
        let betas = [settings.adam_beta1, settings.adam_beta2];
        let step = AdamWStep {
            learning_rate,
            decay: settings.weight_decay,
            betas,
            epsilon: settings.adam_epsilon,
            clip: 1.0, // computed by the engine
            corrections: betas.map(|beta| match settings.bias_correction {
                true => 1.0 / (1.0 - beta.powi(number)),
                false => 1.0,
            }),
        };
        let layout = Layout::new(self.network.encoder());
        let mut updates = Vec::new();
        let parameters = self.params.iter_mut().zip(&mut self.moments).zip(&gradients);
        for (index, ((value, moments), gradient)) in parameters.enumerate() {
            let (Some(gradient), Some(moments)) = (gradient, moments) else { continue };
            let rate = settings.layerwise_lr_decay.powi(layout.depth(index) as i32);
            let decay = if self.specs[index].decay { step.decay } else { 0.0 };
            let step = AdamWStep { learning_rate: learning_rate * rate, decay, ..step };
            updates.push(Update { value, moments, gradient, step });
        }
        let sums = ops.step(&loss, &mut updates, settings.max_grad_norm)?;
        let step = self.steps as usize;
        Ok(sums.and_then(move |sums| finite(sums, step, learning_rate)))
    }

    /// Loss and gradient of all batches together.
    fn gradient(&self, batches: &[Batch]) -> Result<Gradient<O::Buffer>> {
        let Self { ops, network, settings, .. } = self;
        let labels = || batches.iter().flat_map(|batch| &batch.labels);
        let total = match &self.class_weights {
            Some(weights) => labels().filter_map(|label| weights.get(*label as usize)).sum(),
            None => labels().count() as f64,
        };
        // Where all instances of a step have weight 0, the gradient is 0 rather than undefined.
        let total = if total > 0.0 { total } else { 1.0 };
        let weights = self.class_weights.as_deref();
        let loss = Loss { weights, focal_gamma: settings.focal_gamma, total };
        let mut sum: Option<Gradient<O::Buffer>> = None;
        for (micro, batch) in batches.iter().enumerate() {
            let pass = ForwardContext {
                seed: settings.seed,
                step: self.steps,
                micro: micro as u32,
                hidden: settings.dropout.unwrap_or(network.encoder().hidden_dropout_prob),
                attention: settings.dropout.unwrap_or(network.encoder().attention_probs_dropout_prob),
                head: settings.head_dropout,
                frozen: Frozen::new(settings.freeze),
                recompute: settings.gradient_checkpointing,
            };
            let (part, gradients) = network.gradient(*ops, &self.params, batch, &pass, &loss)?;
            sum = Some(match sum {
                None => (part, gradients),
                Some((loss, sums)) => {
                    let add = |pair| match pair {
                        (Some(sum), Some(gradient)) => Ok(Some(ops.add(sum, &gradient)?)),
                        (sum, gradient) => Ok(sum.or(gradient)),
                    };
                    (ops.add(loss, &part)?, sums.into_iter().zip(gradients).map(add).collect::<Result<_>>()?)
                }
            });
        }
        sum.ok_or_else(|| Error::config("batch_size", "a step needs at least one batch"))
    }

    /// Compute and keep the hidden states of instances, where the encoder is frozen.
    ///
    /// # Errors
    /// Errors of the engine, and whatever `on_batch` returns.
    pub fn prepare(&self, features: &[Features], on_batch: OnBatch<'_>) -> Result<()> {
        match self.settings.freeze {
            Some(Freeze::All) => self.network.prepare(self.ops, &self.params, features, on_batch),
            _ => Ok(()),
        }
    }

    /// See [`Ops::max_in_flight`].
    pub fn max_in_flight(&self) -> usize {
        self.ops.max_in_flight()
    }

    /// The architecture.
    pub fn network(&self) -> &'a M {
        self.network
    }

    /// The settings.
    pub fn settings(&self) -> &TrainingSettings {
        &self.settings
    }

    /// Score the current parameters on held-out data. `at` is the step and the epoch.
    ///
    /// # Errors
    /// Errors of the engine, and whatever `on_batch` returns.
    pub fn evaluate(&self, dev: &Dev<'_>, at: (usize, usize), on_batch: OnBatch<'_>) -> Result<Evaluation> {
        self.network.evaluate(self.ops, &self.params, dev, at, on_batch)
    }

    /// The current parameters.
    ///
    /// # Errors
    /// Errors of the engine.
    pub fn weights(&self) -> Result<Weights> {
        let values = self.params.iter().map(|param| self.ops.download(param)).collect::<Result<Vec<_>>>()?;
        Ok(Weights { specs: self.specs.clone(), values })
    }

    /// Names and shapes of the parameters.
    pub fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }

    /// Everything that the next step depends on.
    ///
    /// # Errors
    /// Errors of the engine.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let moments = self.moments.iter().map(|moments| match moments {
            Some(Moments { m, v }) => Ok(Some([self.ops.download(m)?, self.ops.download(v)?])),
            None => Ok(None),
        });
        Ok(Snapshot { params: self.weights()?.values, moments: moments.collect::<Result<_>>()?, steps: self.steps })
    }

    /// Resume from a snapshot of a trainer of the same network and settings.
    ///
    /// # Errors
    /// Errors of the engine.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        for (index, spec) in self.specs.iter().enumerate() {
            self.params[index] = self.ops.upload(&snapshot.params[index], &spec.shape)?;
            if let (Some(moments), Some([m, v])) = (&mut self.moments[index], &snapshot.moments[index]) {
                *moments = Moments { m: self.ops.upload(m, &spec.shape)?, v: self.ops.upload(v, &spec.shape)? };
            }
        }
        self.steps = snapshot.steps;
        Ok(())
    }
}

/// Refuse a loss or gradient norm that is not finite.
fn finite(sums: StepResult, step: usize, learning_rate: f64) -> Result<StepResult> {
    let StepResult { loss, norm } = sums;
    if loss.is_finite() && norm.is_finite() {
        return Ok(sums);
    }
    let message = format!(
        "the loss is {loss} and the gradient norm {norm}; a lower learning_rate or a longer warmup usually helps (learning \
         rate at this step: {learning_rate:.3e})"
    );
    Err(Error::Training { step, message })
}

/// Which parameters are trained, in order.
fn trained(settings: &TrainingSettings, network: &impl Objective, count: usize) -> impl Iterator<Item = bool> {
    let layers = network.encoder().num_hidden_layers;
    let deepest = match settings.freeze {
        None => usize::MAX,
        // Depth counts from the head down.
        Some(Freeze::Layers(frozen)) => layers.saturating_sub(frozen),
        Some(Freeze::All) => 0,
    };
    let layout = Layout::new(network.encoder());
    (0..count).map(move |index| layout.depth(index) <= deepest)
}
