//! Encoder and head together: logits of a batch, and the gradient of its loss.

use candle_core::backprop::GradStore;
use candle_core::{D, Tensor, Var};

use crate::config::{Compat, HeadKind};
use crate::encode::{Batch, Features, MarkerIds, Padding};
use crate::model::encoder::{self, EncoderGradient, EncoderOutput, ForwardContext, Site};
use crate::model::head::training::{self, HeadGradient, Reading};
use crate::model::head::{self, Definition, Head, HeadInput, HeadOutput, LastRows, Parameters};
use crate::model::params::{Layout, encoder_specs};
use crate::model::{EncoderConfig, ParamSpec, Source, markers};
use crate::ops::{Loss, Ops, StepList, Targets, classifier};
use crate::rng::Dropout;
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
    /// The padding of the paper's code ([`Compat::Su2020`]), whose head then also has that code's
    /// initial values and reads `[SEP]` and padding; `None` for the paper's text.
    pub padding: Option<Padding>,
    /// Number of entity types with levitated markers, whose embeddings follow the word embedding's
    /// rows; 0 for another marking.
    pub marker_types: u32,
    /// What computes the hidden states where the encoder is not trained.
    pub source: Source,
}

/// The result of [`Network::explain`] for a batch of T tokens.
#[derive(Debug)]
pub struct Explanation {
    /// Logits, and the head's attention weights if it has any.
    pub output: HeadOutput,
    /// For each token, the gradient of the logit of its sentence's predicted label with respect to
    /// the token's embedding, times its word embedding, `(T)`: positive where the token supports
    /// the label, to first order.
    pub gradient_times_input: Vec<f32>,
    /// For each token, the attention that its sentence's `[CLS]` gives it in the last layer, mean
    /// of the heads, `(T)`.
    pub attention_of_cls: Vec<f32>,
}

/// A loss, `(1)`, and its gradient with respect to every parameter, in order; `None` for frozen
/// ones.
pub type Gradient<B> = (B, Vec<Option<B>>);

/// The output of a head, and the gradients of its input and its parameters.
struct HeadBackward<B> {
    output: HeadOutput,
    encoded: EncoderGradient<B>,
    weights: Vec<B>,
}

impl Network {
    fn definition(&self) -> &'static Definition {
        self.head.definition(self.padding.map(|_| Compat::Su2020))
    }

    /// The ids of the levitated markers, if there are any.
    pub fn markers(&self) -> Option<MarkerIds> {
        let markers = MarkerIds { first: self.encoder.vocab_size as u32, types: self.marker_types };
        (!markers.is_empty()).then_some(markers)
    }

    /// A batch as this network reads it. Neighbours with levitated markers in the same text share
    /// it.
    pub fn pack<'a>(&self, features: impl IntoIterator<Item = &'a Features>) -> Batch {
        self.packed(features, true)
    }

    /// As [`Network::pack`], with a sentence of its own for every instance.
    pub fn pack_apart<'a>(&self, features: impl IntoIterator<Item = &'a Features>) -> Batch {
        self.packed(features, false)
    }

    fn packed<'a>(&self, features: impl IntoIterator<Item = &'a Features>, share: bool) -> Batch {
        match (self.markers(), self.padding) {
            (Some(markers), _) => Batch::levitate(features, markers, share),
            (None, Some(padding)) => Batch::pad(features, padding),
            (None, None) => Batch::pack(features),
        }
    }

    /// All parameters in order: the encoder's, then the head's.
    pub fn specs(&self) -> Vec<ParamSpec> {
        let mut specs = encoder_specs(&self.encoder);
        if let Some(markers) = self.markers() {
            specs[Layout::WORDS].shape[0] += markers.len();
        }
        specs.extend(self.head_specs());
        specs
    }

    /// Compute what the head reads of a batch and keep it, where the encoder is frozen.
    ///
    /// # Errors
    /// As [`encoder::forward`].
    pub fn fill_cache<O: Ops>(&self, ops: &O, params: &[O::Buffer], batch: &Batch) -> Result<()> {
        self.source.fill(ops, &self.encoder, params, batch, self.definition().reads)
    }

    /// The head's parameters in order.
    pub fn head_specs(&self) -> Vec<ParamSpec> {
        head::specs(self.definition(), self.encoder.hidden_size, self.labels)
    }

    /// The parameters that no encoder has, as a saved model names them: the head's, and the
    /// embeddings of levitated markers.
    pub fn new_specs(&self) -> Vec<ParamSpec> {
        let mut specs = self.head_specs();
        specs.extend(self.markers().map(|markers| markers::spec(markers, self.encoder.embedding_size())));
        specs
    }

    /// Logits and attention weights of a batch, without dropout.
    ///
    /// # Errors
    /// As [`encoder::forward`] and [`Head::forward`].
    pub fn predict<O: Ops>(&self, ops: &O, params: &[O::Buffer], batch: &Batch) -> Result<HeadOutput> {
        let encoded = self.source.forward(ops, &self.encoder, params, batch, self.definition().reads)?;
        let head = self.build_head(self.head_tensors(ops, params)?)?;
        head.forward(ops, &self.head_input(ops, params, &head, &encoded, batch)?, None)
    }

    /// The loss of a batch and its gradient. Neither waits for a device: the loss stays on the
    /// engine.
    ///
    /// # Errors
    /// As [`Network::predict`]; [`Error::Config`] when labels are missing or unknown.
    pub fn gradient<O: Ops>(
        &self,
        ops: &O,
        params: &[O::Buffer],
        batch: &Batch,
        context: &ForwardContext,
        loss: &Loss<'_>,
    ) -> Result<Gradient<O::Buffer>> {
        self.gradient_in_groups(ops, params, batch, context, loss, &[self.labels])
    }

    /// As [`Network::gradient`], with the labels in groups of these sizes, one after the other: the
    /// loss of an instance is over the labels of its group.
    ///
    /// # Errors
    /// As [`Network::gradient`].
    pub fn gradient_in_groups<O: Ops>(
        &self,
        ops: &O,
        params: &[O::Buffer],
        batch: &Batch,
        context: &ForwardContext,
        loss: &Loss<'_>,
        groups: &[usize],
    ) -> Result<Gradient<O::Buffer>> {
        if batch.labels.len() != batch.len() {
            return Err(Error::config("label", "every training instance needs a label"));
        }
        if let Some(label) = batch.labels.iter().find(|label| **label as usize >= self.labels) {
            return Err(Error::config("label", format!("label {label} is not one of {} labels", self.labels)));
        }
        let spec = self.definition().reads;
        let targets = Targets { labels: &batch.labels, groups, loss };
        let reading = self.definition().by_engine.then(|| Reading::new(spec, batch)).transpose()?;
        let mut lists = match &reading {
            Some(reading) => reading.step_lists(&targets, self.labels),
            None => vec![StepList::Labels(&batch.labels, loss), StepList::Rows(batch.first_tokens().into())],
        };
        if !context.frozen.whole {
            lists.extend(encoder::step_lists(&self.encoder, batch, context, spec));
        }
        ops.prepare(&lists)?;
        let (encoded, tape) = match context.frozen.whole {
            true => (self.source.forward(ops, &self.encoder, params, batch, spec)?, None),
            false => encoder::forward(ops, &self.encoder, params, batch, Some(context), spec)?,
        };
        let dropout = context.dropout(Site::Head(self.encoder.num_hidden_layers));
        let head = match &reading {
            Some(reading) => {
                training::gradient(ops, reading, self.head_params(params), &encoded, dropout.as_ref(), &targets)?
            }
            None => {
                let mut value = None;
                let head = self.head_backward(ops, params, &encoded, batch, dropout, |logits| {
                    let (loss, objective) = classifier::objective(ops, &targets, logits)?;
                    value = Some(loss);
                    Ok(objective)
                })?;
                let Some(loss) = value else { unreachable!("the objective was called") };
                HeadGradient { loss, encoded: head.encoded, weights: head.weights }
            }
        };
        let mut all = match tape {
            Some(tape) => encoder::backward(ops, &self.encoder, params, batch, context, tape, head.encoded)?,
            None => vec![None; Layout::new(&self.encoder).len],
        };
        all.extend(head.weights.into_iter().map(Some));
        Ok((head.loss, all))
    }

    /// Predict a batch, without dropout, and measure the contribution of each token to the
    /// prediction of its sentence. Instances that share a sentence would share its contributions:
    /// see [`Network::pack_apart`].
    ///
    /// # Errors
    /// As [`Network::predict`].
    pub fn explain<O: Ops>(&self, ops: &O, params: &[O::Buffer], batch: &Batch) -> Result<Explanation> {
        if self.source.candle().is_some() {
            let kind = self.encoder.model_type;
            let message = format!(
                "`{kind}` is computed by candle-transformers, which shows neither its attention nor gradients; choose a \
                 head that weighs words, and its weights"
            );
            return Err(Error::config("encoder", message));
        }
        let (context, spec) = (ForwardContext::without_dropout(), self.definition().reads);
        let (encoded, tape) = encoder::forward(ops, &self.encoder, params, batch, Some(&context), spec)?;
        let Some(tape) = tape else { unreachable!("a forward with a context has a tape") };
        let attention_of_cls = tape.attention_of_cls(ops, &self.encoder, batch)?;
        let head = self.head_backward(ops, params, &encoded, batch, None, |logits| {
            let best = logits.argmax_keepdim(D::Minus1)?; // (n, 1)
            Ok(logits.gather(&best, 1)?.sum_all()?)
        })?;
        let gradient = encoder::input_gradient(ops, &self.encoder, params, batch, tape, head.encoded)?;
        let words: Vec<usize> = batch.ids.iter().map(|id| *id as usize).collect();
        let gradient = ops.download(&gradient)?; // (T, E)
        let input = ops.download(&ops.rows(&params[Layout::WORDS], &words)?)?; // (T, E)
        let width = self.encoder.embedding_size();
        let products = gradient.chunks_exact(width).zip(input.chunks_exact(width));
        let gradient_times_input = products.map(|(g, x)| g.iter().zip(x).map(|(g, x)| g * x).sum()).collect();
        Ok(Explanation { output: head.output, gradient_times_input, attention_of_cls })
    }

    /// The head's forward and, from a scalar `objective` of the logits, its backward by candle's
    /// autograd. The leaves are the head's parameters and its input. The engine computes the
    /// projection of the last layer.
    fn head_backward<O: Ops>(
        &self,
        ops: &O,
        params: &[O::Buffer],
        encoded: &EncoderOutput<O::Buffer>,
        batch: &Batch,
        dropout: Option<Dropout>,
        objective: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<HeadBackward<O::Buffer>> {
        let leaf = |tensor: &Tensor| Ok::<_, Error>(Var::from_tensor(tensor)?);
        let weights = self.head_tensors(ops, params)?.iter().map(leaf).collect::<Result<Vec<_>>>()?;
        let head = self.build_head(weights.iter().map(|var| var.as_tensor().clone()).collect())?;
        let mut input = self.head_input(ops, params, &head, encoded, batch)?;
        let optional = |tensor: &Option<Tensor>| tensor.as_ref().map(leaf).transpose();
        let [first, last, projection] = [optional(&input.cls)?, optional(&input.tokens)?, optional(&input.projection)?];
        let entities = optional(&input.entities)?;
        let cls = input.cls_of_layers.iter().map(leaf).collect::<Result<Vec<_>>>()?;
        let tensor = |var: &Option<Var>| var.as_ref().map(|var| var.as_tensor().clone());
        (input.cls, input.tokens, input.projection) = (tensor(&first), tensor(&last), tensor(&projection));
        input.entities = tensor(&entities);
        input.cls_of_layers = cls.iter().map(|var| var.as_tensor().clone()).collect();
        let output = head.forward(ops, &input, dropout.as_ref())?;
        let objective = objective(&output.logits)?;
        let gradients = objective.backward()?;
        let of = |var: &Var| -> Result<O::Buffer> {
            match gradients.get(var) {
                Some(gradient) => ops.upload_candle(gradient),
                None => ops.upload_candle(&var.zeros_like()?), // unused by the head
            }
        };
        let mut weights = weights.iter().map(of).collect::<Result<Vec<_>>>()?;
        let hidden = self.encoder.hidden_size;
        let rows = LastRows::new(self.definition().reads, batch);
        let mut last = match &last {
            Some(last) => of(last)?,
            None => ops.zeros(&[rows.len(), hidden])?,
        };
        if let Some(first) = &first {
            last = match rows.are(batch.first_tokens()) {
                true => of(first)?,
                false => ops.add_rows(last, &rows.of(batch.first_tokens()), &of(first)?)?,
            };
        }
        if let Some(entities) = gradient_of(entities.as_ref(), &gradients) {
            // The two may be the same token, and rows that are added must be distinct.
            for argument in 0..2 {
                let part = entities.narrow(1, argument * hidden, hidden)?.contiguous()?; // (m, H)
                let pairs = batch.instances.iter().flat_map(|of| &of.entities);
                let tokens: Vec<usize> = pairs.map(|tokens| tokens[argument]).collect();
                last = ops.add_rows(last, &rows.of(&tokens), &ops.upload_candle(&part)?)?;
            }
        }
        if let (Some(projection), Some([weight, bias])) = (&projection, head.projection) {
            let dz = of(projection)?;
            let matrix = &self.head_params(params)[weight];
            (last, weights[weight]) = ops.linear_backward(&encoded.last, matrix, &dz, Some(last))?;
            weights[bias] = ops.column_sum(&dz)?;
        }
        let cls = cls.iter().map(of).collect::<Result<Vec<_>>>()?;
        Ok(HeadBackward { encoded: EncoderGradient { last, cls }, weights, output })
    }

    fn head_params<'a, B>(&self, params: &'a [B]) -> &'a [B] {
        &params[Layout::new(&self.encoder).len..]
    }

    fn head_tensors<O: Ops>(&self, ops: &O, params: &[O::Buffer]) -> Result<Vec<Tensor>> {
        self.head_params(params).iter().map(|p| ops.to_candle(p)).collect()
    }

    /// The head with these parameters. It is built in every step, because they change and building
    /// is cheap.
    fn build_head(&self, tensors: Vec<Tensor>) -> Result<Head> {
        Head::new(self.definition(), self.encoder.hidden_size, self.labels, &Parameters::with_values(tensors))
    }

    fn head_input<O: Ops>(
        &self,
        ops: &O,
        params: &[O::Buffer],
        head: &Head,
        encoded: &EncoderOutput<O::Buffer>,
        batch: &Batch,
    ) -> Result<HeadInput> {
        let own = self.head_params(params);
        let projection =
            |[weight, bias]: [usize; 2]| ops.to_candle(&ops.linear(&encoded.last, &own[weight], Some(&own[bias]))?);
        let spec = self.definition().reads;
        let rows = LastRows::new(spec, batch);
        let cls = || match rows.are(batch.first_tokens()) {
            true => ops.to_candle(&encoded.last),
            false => ops.to_candle(&ops.rows(&encoded.last, &rows.of(batch.first_tokens()))?),
        };
        let tokens = || ops.to_candle(&encoded.last);
        let entities = || {
            let both: Vec<usize> =
                batch.instances.iter().flat_map(|of| of.entities.iter().flatten().copied()).collect();
            let vectors = ops.to_candle(&ops.rows(&encoded.last, &rows.of(&both))?)?; // (2m, H)
            Ok::<_, Error>(vectors.reshape((both.len() / 2, 2 * self.encoder.hidden_size))?)
        };
        Ok(HeadInput {
            cls: spec.cls.then(cls).transpose()?,
            tokens: spec.tokens.then(tokens).transpose()?,
            cls_of_layers: encoded.cls.iter().map(|cls| ops.to_candle(cls)).collect::<Result<Vec<_>>>()?,
            projection: head.projection.map(projection).transpose()?,
            entities: spec.entities.then(entities).transpose()?,
            mentions: batch.instances.iter().map(|of| of.entities.len()).collect(),
            words: batch.instances.iter().map(|of| of.words.clone()).collect(),
        })
    }
}

/// The gradient of a leaf, if it exists and has one.
fn gradient_of(leaf: Option<&Var>, gradients: &GradStore) -> Option<Tensor> {
    leaf.and_then(|leaf| gradients.get(leaf)).cloned()
}
