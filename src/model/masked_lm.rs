//! BERT's masked language model (Devlin et al. 2019, section 3.1), forward and backward over
//! [`Ops`]: a transform of the last layer at the masked pieces, and the word embedding E as decoder.
//!
//! ```text
//! m = LayerNorm(gelu(W h + b))
//! p = softmax(E m + c)
//! ```
//!
//! Only the masked pieces are decoded, and only for them is the last layer computed.

use crate::encode::{Batch, Features, Masking};
use crate::model::encoder::{self, EncoderGradient, ForwardContext, OutputSpec};
use crate::model::network::Gradient;
use crate::model::params::{Layout, encoder_specs};
use crate::model::{EncoderConfig, Init, ParamSpec};
use crate::ops::{Loss, Norm, Ops, StepList};
use crate::{Error, Result};

/// The encoder with the transform and the decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct MaskedLm {
    /// The encoder's sizes.
    pub encoder: EncoderConfig,
    /// How words are masked.
    pub masking: Masking,
}

/// The last layer at the masked pieces, which are the instances of a masked batch.
const READS: OutputSpec = OutputSpec { entities: true, ..OutputSpec::NOTHING };

impl MaskedLm {
    /// The parameters above the encoder: W, b, scale and shift of the LayerNorm, c; ModernBERT has no b and
    /// no shift. The decoder is the word embedding, `(V, E)`. None for an architecture whose language model
    /// is another. Their names are those of transformers' class for masked language models, such as
    /// `BertForMaskedLM`.
    pub fn decoder_specs(config: &EncoderConfig) -> Vec<ParamSpec> {
        let (h, e) = (config.hidden_size, config.embedding_size());
        let Some([transform, norm, bias]) = config.model_type.names().language_model else { return vec![] };
        let [of_transform, of_norm, of_decoder] = config.decoder_biases();
        let parameters = [
            Some(ParamSpec::new(format!("{transform}.weight"), &[e, h], Init::WEIGHT)),
            of_transform.then(|| ParamSpec::bias(format!("{transform}.bias"), e)),
            Some(ParamSpec::scale(format!("{norm}.weight"), e)),
            of_norm.then(|| ParamSpec::bias(format!("{norm}.bias"), e)),
            of_decoder.then(|| ParamSpec::bias(bias, config.vocab_size)),
        ];
        parameters.into_iter().flatten().collect()
    }

    /// All parameters in order: the encoder's, then those above it.
    pub fn specs(&self) -> Vec<ParamSpec> {
        let mut specs = encoder_specs(&self.encoder);
        specs.extend(Self::decoder_specs(&self.encoder));
        specs
    }

    /// Texts with masked words. `number` separates the batches of a run, so that a text is masked
    /// anew every time it is drawn.
    pub fn pack<'a>(&self, texts: impl IntoIterator<Item = &'a Features>, number: u32) -> Batch {
        let mut stream = self.masking.stream(number);
        Batch::masked(texts.into_iter().map(|text| self.masking.mask(text, &mut stream)))
    }

    /// The loss of a batch and its gradient, in the order of [`MaskedLm::specs`].
    ///
    /// # Errors
    /// As [`encoder::forward`].
    pub fn gradient<O: Ops>(
        &self,
        ops: &O,
        params: &[O::Buffer],
        batch: &Batch,
        context: &ForwardContext,
        loss: &Loss<'_>,
    ) -> Result<Gradient<O::Buffer>> {
        let mut lists = encoder::step_lists(&self.encoder, batch, context, READS);
        lists.push(StepList::Labels(&batch.labels, loss));
        ops.prepare(&lists)?;
        let (encoded, tape) = encoder::forward(ops, &self.encoder, params, batch, Some(context), READS)?;
        let Some(tape) = tape else { unreachable!("a forward with a context has a tape") };
        let zeros = self.zeros(ops)?;
        let Decoder { weight, bias, norm, shift } = self.decoder(params, zeros.as_ref())?;
        let gamma = norm.gamma;
        let table = &params[Layout::WORDS];
        let h = &encoded.last; // (n, H)
        let transformed = ops.linear(h, weight, None)?;
        let normed = ops.add_norm(ops.bias_gelu(&transformed, bias)?, None, None, norm, None)?;
        let logits = ops.linear(&normed.out, table, shift)?; // (n, V)
        let (value, d_logits) = ops.cross_entropy(&logits, &batch.labels, loss)?;
        drop(logits);
        let (d_normed, d_table) = ops.linear_backward(&normed.out, table, &d_logits, None)?;
        let d_shift = ops.column_sum(&d_logits)?;
        drop(d_logits);
        let d = ops.add_norm_backward(d_normed, &normed, gamma, None)?;
        let (d_transformed, d_bias) = ops.bias_gelu_backward(&transformed, bias, d.branch)?;
        let (d_h, d_weight) = ops.linear_backward(h, weight, &d_transformed, None)?;
        let gradient = EncoderGradient { last: d_h, cls: vec![] };
        let mut all = encoder::backward(ops, &self.encoder, params, batch, context, tape, gradient)?;
        // The table is the decoder too, unless it is frozen.
        let of_table = &mut all[Layout::WORDS];
        *of_table = of_table.take().map(|embedded| ops.add(embedded, &d_table)).transpose()?;
        let [of_transform, of_norm, of_decoder] = self.encoder.decoder_biases();
        let there = [true, of_transform, true, of_norm, of_decoder];
        let own = [d_weight, d_bias, d.gamma, d.beta, d_shift].into_iter().zip(there);
        all.extend(own.filter(|(_, there)| *there).map(|(gradient, _)| Some(gradient)));
        Ok((value, all))
    }

    /// The sum of the cross-entropies of a batch's masked pieces, without dropout.
    ///
    /// # Errors
    /// As [`encoder::forward`].
    pub fn loss<O: Ops>(&self, ops: &O, params: &[O::Buffer], batch: &Batch) -> Result<f64> {
        let (encoded, _) = encoder::forward(ops, &self.encoder, params, batch, None, READS)?;
        let zeros = self.zeros(ops)?;
        let Decoder { weight, bias, norm, shift } = self.decoder(params, zeros.as_ref())?;
        let activated = ops.bias_gelu(&ops.linear(&encoded.last, weight, None)?, bias)?;
        let normed = ops.add_norm(activated, None, None, norm, None)?;
        let logits = ops.linear(&normed.out, &params[Layout::WORDS], shift)?;
        let (loss, _) = ops.cross_entropy(&logits, &batch.labels, &Loss::mean(1))?;
        Ok(ops.download(&loss)?.first().copied().map_or(f64::NAN, f64::from))
    }

    /// What stands for biases that there are not, `(E)`.
    fn zeros<O: Ops>(&self, ops: &O) -> Result<Option<O::Buffer>> {
        let all = self.encoder.decoder_biases() == [true; 3];
        (!all).then(|| ops.zeros(&[self.encoder.embedding_size()])).transpose()
    }

    /// The parameters above the encoder.
    fn decoder<'a, B>(&self, params: &'a [B], zeros: Option<&'a B>) -> Result<Decoder<'a, B>> {
        let [of_transform, of_norm, of_decoder] = self.encoder.decoder_biases();
        let mut own = params[Layout::new(&self.encoder).len..].iter();
        let mut next = |there: bool| if there { own.next() } else { None };
        let (weight, bias) = (next(true), next(of_transform).or(zeros));
        let (gamma, beta) = (next(true), next(of_norm).or(zeros));
        let shift = next(of_decoder);
        match (weight, bias, gamma, beta, own.next()) {
            (Some(weight), Some(bias), Some(gamma), Some(beta), None) => {
                Ok(Decoder { weight, bias, norm: Norm { gamma, beta, eps: self.encoder.layer_norm_eps }, shift })
            }
            _ => Err(Error::config("weights", "the language model has other parameters above its encoder")),
        }
    }
}

/// What is above the encoder.
struct Decoder<'a, B> {
    weight: &'a B,
    bias: &'a B,
    norm: Norm<'a, B>,
    shift: Option<&'a B>,
}
