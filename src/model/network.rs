//! Encoder and head together: logits of a batch, and the gradient of its loss.

use candle_core::{D, DType, Tensor, Var};
use candle_nn::ops::log_softmax;

use crate::config::HeadKind;
use crate::encode::Batch;
use crate::model::encoder::{self, Encoded, EncodedGradient, Pass, Site};
use crate::model::head::{self, HeadInput, HeadOutput};
use crate::model::params::{Layout, encoder_specs};
use crate::model::{EncoderConfig, ParamSpec, Weights};
use crate::ops::Ops;
use crate::{Error, Result};

/// The architecture of a relation classifier.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// The encoder's sizes.
    pub encoder: EncoderConfig,
    /// The head.
    pub head: HeadKind,
    /// Number of labels.
    pub labels: usize,
}

impl Network {
    /// All parameters in order: the encoder's, then the head's.
    pub fn specs(&self) -> Vec<ParamSpec> {
        let mut specs = encoder_specs(&self.encoder);
        specs.extend(self.head_specs());
        specs
    }

    /// The head's parameters in order.
    pub fn head_specs(&self) -> Vec<ParamSpec> {
        head::head_specs(self.head, self.encoder.hidden_size, self.labels)
    }

    /// The values on an engine, in order.
    ///
    /// # Errors
    /// When the engine refuses, for instance for lack of memory.
    pub fn upload<O: Ops>(&self, ops: &O, weights: &Weights) -> Result<Vec<O::Buffer>> {
        let specs = weights.specs.iter().zip(&weights.values);
        specs.map(|(spec, values)| ops.upload(values, &spec.shape)).collect()
    }

    /// Logits and attention weights of a batch, without dropout.
    ///
    /// # Errors
    /// As [`encoder::forward`] and [`head::forward`].
    pub fn predict<O: Ops>(&self, ops: &O, params: &[O::Buffer], batch: &Batch) -> Result<HeadOutput> {
        let (encoded, _) = encoder::forward(ops, &self.encoder, params, batch, None, head::reads_every_cls(self.head))?;
        let input = head_input(ops, &encoded, batch)?;
        head::forward(self.head, &self.head_tensors(ops, params)?, &input, None)
    }

    /// The loss of a batch and its gradient with respect to every parameter, in order.
    ///
    /// The loss is the sum of the instances' cross-entropies divided by `count`: the batch's size, or the whole
    /// step's when the batch is a part of one.
    ///
    /// # Errors
    /// As [`Network::predict`]; [`Error::Config`] when labels are missing or unknown.
    pub fn gradient<O: Ops>(
        &self,
        ops: &O,
        params: &[O::Buffer],
        batch: &Batch,
        pass: &Pass,
        count: usize,
    ) -> Result<(f64, Vec<O::Buffer>)> {
        if batch.labels.len() != batch.len() {
            return Err(Error::config("label", "every training instance needs a label"));
        }
        if let Some(label) = batch.labels.iter().find(|label| **label as usize >= self.labels) {
            return Err(Error::config("label", format!("label {label} is not one of {} labels", self.labels)));
        }
        let every_cls = head::reads_every_cls(self.head);
        let (encoded, tape) = encoder::forward(ops, &self.encoder, params, batch, Some(pass), every_cls)?;

        // The head on candle's autograd: its parameters and what it reads are leaves.
        let mut input = head_input(ops, &encoded, batch)?;
        let leaf = |tensor: &Tensor| Ok::<_, Error>(Var::from_tensor(tensor)?);
        let weights = self.head_tensors(ops, params)?.iter().map(leaf).collect::<Result<Vec<_>>>()?;
        let last = leaf(&input.last)?;
        let cls = input.cls.iter().map(leaf).collect::<Result<Vec<_>>>()?;
        input.last = last.as_tensor().clone();
        input.cls = cls.iter().map(|var| var.as_tensor().clone()).collect();
        let tensors: Vec<Tensor> = weights.iter().map(|var| var.as_tensor().clone()).collect();
        let dropout = pass.dropout(Site::Head(self.encoder.num_hidden_layers));
        let output = head::forward(self.head, &tensors, &input, dropout.as_ref())?;
        let labels = Tensor::new(batch.labels.as_slice(), output.logits.device())?.unsqueeze(1)?; // (n, 1)
        let chosen = log_softmax(&output.logits, D::Minus1)?.gather(&labels, 1)?;
        let loss = (chosen.sum_all()?.neg()? / count as f64)?;
        let gradients = loss.backward()?;
        let of = |var: &Var| -> Result<O::Buffer> {
            match gradients.get(var) {
                Some(gradient) => ops.from_candle(gradient),
                None => ops.from_candle(&var.zeros_like()?), // what the head did not read
            }
        };

        let gradient = EncodedGradient { last: of(&last)?, cls: cls.iter().map(of).collect::<Result<Vec<_>>>()? };
        let Some(tape) = tape else { unreachable!("a training pass keeps its tape") };
        let mut all = encoder::backward(ops, &self.encoder, params, batch, pass, tape, gradient)?;
        for var in &weights {
            all.push(of(var)?);
        }
        Ok((loss.to_dtype(DType::F64)?.to_scalar()?, all))
    }

    fn head_tensors<O: Ops>(&self, ops: &O, params: &[O::Buffer]) -> Result<Vec<Tensor>> {
        params[Layout::len(self.encoder.num_hidden_layers)..].iter().map(|p| ops.to_candle(p)).collect()
    }
}

fn head_input<O: Ops>(ops: &O, encoded: &Encoded<O::Buffer>, batch: &Batch) -> Result<HeadInput> {
    Ok(HeadInput {
        last: ops.to_candle(&encoded.last)?,
        cls: encoded.cls.iter().map(|cls| ops.to_candle(cls)).collect::<Result<Vec<_>>>()?,
        starts: batch.starts.clone(),
    })
}
