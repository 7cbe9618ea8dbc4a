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

/// How an instance's cross-entropy counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loss<'a> {
    /// Weight of each label; `None` for 1.
    pub weights: Option<&'a [f64]>,
    /// Focal loss (Lin et al. 2017): the cross-entropy of an instance whose label has probability p counts `(1 - p)^gamma`.
    pub focal_gamma: f64,
    /// What the sum over the batch is divided by: the sum of the weights of all instances of the step.
    pub total: f64,
}

impl<'a> Loss<'a> {
    /// The plain mean over `count` instances.
    pub fn mean(count: usize) -> Loss<'a> {
        Loss { weights: None, focal_gamma: 0.0, total: count as f64 }
    }
}

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

    /// The loss of a batch and its gradient with respect to every parameter, in order; `None` for frozen ones.
    ///
    /// # Errors
    /// As [`Network::predict`]; [`Error::Config`] when labels are missing or unknown.
    pub fn gradient<O: Ops>(
        &self,
        ops: &O,
        params: &[O::Buffer],
        batch: &Batch,
        pass: &Pass,
        loss: &Loss<'_>,
    ) -> Result<(f64, Vec<Option<O::Buffer>>)> {
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
        let mut losses = chosen.neg()?;
        if loss.focal_gamma > 0.0 {
            losses = (losses * chosen.exp()?.affine(-1.0, 1.0)?.powf(loss.focal_gamma)?)?;
        }
        if let Some(weights) = loss.weights {
            let weights: Vec<f64> = batch.labels.iter().map(|label| weights[*label as usize]).collect();
            let weights = Tensor::from_vec(weights, (batch.len(), 1), losses.device())?;
            losses = (losses * weights.to_dtype(output.logits.dtype())?)?;
        }
        let loss = (losses.sum_all()? / loss.total)?;
        let gradients = loss.backward()?;
        let of = |var: &Var| -> Result<O::Buffer> {
            match gradients.get(var) {
                Some(gradient) => ops.upload_candle(gradient),
                None => ops.upload_candle(&var.zeros_like()?), // what the head did not read
            }
        };

        let gradient = EncodedGradient { last: of(&last)?, cls: cls.iter().map(of).collect::<Result<Vec<_>>>()? };
        let Some(tape) = tape else { unreachable!("a training pass keeps its tape") };
        let mut all = encoder::backward(ops, &self.encoder, params, batch, pass, tape, gradient)?;
        for var in &weights {
            all.push(Some(of(var)?));
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
