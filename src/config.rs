//! Settings of a training run. The defaults are the paper's (section IV-B) and, where the paper is
//! silent, those of its reference code.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

use strum::{IntoStaticStr, VariantArray};

use crate::{Error, Result};

/// What the classifier reads (paper, section III-B). With `h_CLS` the last layer's `[CLS]` vector,
/// `h_1..h_N` the last layer's vectors of the word pieces between `[CLS]` and `[SEP]`, and `s` a
/// summary of a sequence, in the order of the paper's Table III:
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, IntoStaticStr, VariantArray)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum HeadKind {
    /// `h_CLS` ("BioBERT").
    Cls,
    /// `[h_CLS ; s]`, s = last state of an LSTM over `h_1..h_N` ("+LSTM_LL").
    Lstm,
    /// `[h_CLS ; s]`, s = sum_i a_i h_i, a = softmax(h K) ("+Att_LL").
    Attention,
    /// The LSTM summary alone ("+LSTM_LL*").
    LstmNoCls,
    /// The attention summary alone ("+Att_LL*").
    AttentionNoCls,
    /// LSTM over the `[CLS]` vectors of the layers, first to last ("+LSTM_CLS").
    LstmAllCls,
    /// Attention over the `[CLS]` vectors of the layers ("+Att_CLS").
    AttentionAllCls,
    /// `[h_E1 ; h_E2]`, the vectors of the two entities (Baldini Soares et al. 2019); not in the
    /// paper.
    Entity,
    /// `[h_E1 ; h_E2 ; s]`, s = sum_i a_i h_i, a = softmax(v . tanh(K h_i + Q [h_E1 ; h_E2])): the
    /// paper's attention, given the pair; not in the paper.
    EntityAttention,
}

named!(HeadKind, "head");

/// Which implementation of [`crate::ops::Ops`] computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// The first GPU if biorel was built with CUDA and there is one that can be used, else the CPU.
    Auto,
    /// Fused loops over reused buffers, all cores.
    Cpu,
    /// An NVIDIA GPU, counted from 0 as the driver does.
    Cuda(usize),
    /// Plain candle tensor operations: the specification. Slow.
    Reference,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Reference => f.write_str("reference"),
        }
    }
}

impl FromStr for Backend {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let number = |name: &str| name.strip_prefix("cuda:").and_then(|number| number.parse().ok());
        match name {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            "reference" => Ok(Self::Reference),
            _ => number(name).map(Self::Cuda).ok_or_else(|| {
                let message = format!("`{name}` is not a device; choose one of auto, cpu, cuda, cuda:1, reference");
                Error::config("device", message)
            }),
        }
    }
}

/// Number format of the large matrix products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, IntoStaticStr, VariantArray)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Precision {
    /// bf16 on a GPU, and where the processor has instructions for it, else f32.
    #[default]
    Auto,
    /// f32.
    F32,
    /// Operands rounded to bf16, sums in f32. Weights, their updates, LayerNorm and attention stay
    /// in f32.
    Bf16,
}

named!(Precision, "precision");

/// How to treat an instance whose two entities, with the words between them, do not fit into
/// `max_length`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TooLong {
    /// Stop with an error that names the instance.
    Error,
    /// Leave it out, and report it.
    Drop,
    /// Keep a window around each entity and leave out what lies between the windows. An instance
    /// whose mentions alone do not fit is left out and reported.
    #[default]
    Join,
}

/// Which reference is followed where the paper and its code differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compat {
    /// The paper's published code. Every instance is padded to `max_length`, and the heads read all
    /// positions but the first and the last, `[SEP]` and padding included, where the paper's text
    /// says that they read the words; `cls` goes through BERT's tanh pooler; LSTMs start with
    /// Keras's initial values; the learning rate after the warm-up is BERT's `lr (1 - t / T)`.
    Su2020,
}

/// How a model is fine-tuned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainingSettings {
    /// The head.
    pub head: HeadKind,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Instances per optimizer step.
    pub batch_size: usize,
    /// Passes over the training instances.
    pub epochs: usize,
    /// Stop after this many optimizer steps, regardless of `epochs`; the schedule then ends there.
    /// 0 trains nothing.
    pub max_steps: Option<usize>,
    /// Word pieces per instance, `[CLS]` and `[SEP]` included.
    pub max_length: usize,
    /// How to treat an instance that does not fit into `max_length`.
    pub too_long: TooLong,
    /// Seed of initial weights, order of instances, and dropout.
    pub seed: u64,
    /// Share of the steps during which the learning rate rises linearly from 0; it then falls
    /// linearly to 0: from the peak or, with `compat`, as BERT's own optimizer has it (see
    /// [`crate::train::Schedule::learning_rate`]).
    pub warmup_ratio: f64,
    /// Decoupled weight decay; biases and LayerNorm parameters are exempt.
    pub weight_decay: f64,
    /// The gradient is scaled down to this global L2 norm; 0 turns clipping off.
    pub max_grad_norm: f64,
    /// Adam's decay rate of the first moment.
    pub adam_beta1: f64,
    /// Adam's decay rate of the second moment.
    pub adam_beta2: f64,
    /// Adam's epsilon.
    pub adam_epsilon: f64,
    /// Correct the moments' bias towards zero. BERT's own optimizer does not.
    pub bias_correction: bool,
    /// Dropout of hidden states and of attention probabilities; `None` takes the encoder's own
    /// rates.
    pub dropout: Option<f32>,
    /// Dropout before the classifier.
    pub head_dropout: f32,
    /// Batches per optimizer step: a step sees `batch_size` times this many instances, in the
    /// memory of `batch_size`.
    pub gradient_accumulation_steps: usize,
    /// Weight of each label in the loss.
    pub class_weights: Option<ClassWeights>,
    /// Focal loss: instances whose label has probability p count `(1 - p)^focal_gamma`; 0 is plain
    /// cross-entropy.
    pub focal_gamma: f64,
    /// The learning rate of each layer is this times that of the layer above; 1 for one rate.
    pub layerwise_lr_decay: f64,
    /// The part of the encoder that is not trained; `None` trains everything.
    pub freeze: Option<Freeze>,
    /// Negative training instances per positive one, drawn by the seed; `None` keeps all.
    pub negative_ratio: Option<f64>,
    /// Steps between two evaluations on held-out data; `None` evaluates at the end of each epoch.
    pub eval_steps: Option<usize>,
    /// Stop after this many evaluations in a row that were no better than the best.
    pub patience: Option<usize>,
    /// With held-out data, return the weights of the best evaluation; otherwise those after the
    /// last step.
    pub load_best_model: bool,
    /// Follow the reference code where it departs from the paper; `None` follows the paper.
    pub compat: Option<Compat>,
    /// Recompute the layers' activations in the backward instead of storing them.
    pub gradient_checkpointing: bool,
    /// Number format of the large matrix products; a finished run reports which of the two was
    /// used.
    pub precision: Precision,
}

/// The part of the encoder that is not trained. Written as `"all"`, or as a number of layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", expecting = "must be \"all\" or a number of layers")]
pub enum Freeze {
    /// The whole encoder, which then has no dropout: hidden states are computed once per sentence.
    All,
    /// The embeddings and this many layers from the first.
    #[serde(untagged)]
    Layers(usize),
}

/// Weights of the labels in the loss. Written as `"balanced"`, or as the list of weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", expecting = "must be \"balanced\" or one number for each label")]
pub enum ClassWeights {
    /// Inversely proportional to the label's frequency: `instances / (labels * count)`, as
    /// scikit-learn's.
    Balanced,
    /// One weight per label, in the task's order.
    #[serde(untagged)]
    Given(Vec<f64>),
}

impl Default for TrainingSettings {
    fn default() -> Self {
        Self {
            head: HeadKind::Attention,
            learning_rate: 2e-5,
            batch_size: 32,
            epochs: 10,
            max_steps: None,
            max_length: 128,
            too_long: TooLong::Join,
            seed: 1,
            warmup_ratio: 0.1,
            weight_decay: 0.01,
            max_grad_norm: 1.0,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-6,
            bias_correction: false,
            dropout: None,
            head_dropout: 0.1,
            gradient_accumulation_steps: 1,
            class_weights: None,
            focal_gamma: 0.0,
            layerwise_lr_decay: 1.0,
            freeze: None,
            negative_ratio: None,
            eval_steps: None,
            patience: None,
            load_best_model: true,
            compat: None,
            gradient_checkpointing: false,
            precision: Precision::Auto,
        }
    }
}

impl TrainingSettings {
    /// Refuse a `max_length` that is longer than the encoder takes.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn check_length(&self, longest: usize) -> Result<()> {
        if self.max_length > longest {
            let message = format!("{} is too long for this encoder; its limit is {longest}", self.max_length);
            return Err(Error::config("max_length", message));
        }
        Ok(())
    }

    /// Refuse values out of range, naming the allowed range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        let check = |ok: bool, field: &str, allowed: &str, value: &dyn fmt::Display| {
            if ok {
                Ok(())
            } else {
                Err(Error::config(field, format!("{value} is out of range; it must be {allowed}")))
            }
        };
        let finite = |v: f64| v.is_finite();
        check(
            finite(self.learning_rate) && self.learning_rate > 0.0 && self.learning_rate <= 1.0,
            "learning_rate",
            "above 0 and at most 1",
            &self.learning_rate,
        )?;
        check((1..=65_536).contains(&self.batch_size), "batch_size", "from 1 to 65536", &self.batch_size)?;
        check((1..=100_000).contains(&self.epochs), "epochs", "from 1 to 100000", &self.epochs)?;
        if let Some(steps) = self.max_steps {
            check(u32::try_from(steps).is_ok(), "max_steps", "below 2^32", &steps)?;
        }
        check((4..=8192).contains(&self.max_length), "max_length", "from 4 to 8192", &self.max_length)?;
        check(
            (0.0..=1.0).contains(&self.warmup_ratio),
            "warmup_ratio",
            "from 0 to 1 (a share of the steps)",
            &self.warmup_ratio,
        )?;
        check(
            finite(self.weight_decay) && (0.0..=1.0).contains(&self.weight_decay),
            "weight_decay",
            "from 0 to 1",
            &self.weight_decay,
        )?;
        check(
            finite(self.max_grad_norm) && self.max_grad_norm >= 0.0,
            "max_grad_norm",
            "0 (no clipping) or positive",
            &self.max_grad_norm,
        )?;
        for (beta, field) in [(self.adam_beta1, "adam_beta1"), (self.adam_beta2, "adam_beta2")] {
            check((0.0..1.0).contains(&beta), field, "from 0 to below 1", &beta)?;
        }
        let epsilon = self.adam_epsilon;
        check(finite(epsilon) && epsilon > 0.0, "adam_epsilon", "positive", &epsilon)?;
        for (rate, field) in [(self.dropout.unwrap_or(0.0), "dropout"), (self.head_dropout, "head_dropout")] {
            check((0.0..1.0).contains(&rate), field, "from 0 to below 1", &rate)?;
        }
        let batches = self.gradient_accumulation_steps;
        check((1..=65_536).contains(&batches), "gradient_accumulation_steps", "from 1 to 65536", &batches)?;
        check(
            self.focal_gamma == 0.0 || (1.0..=10.0).contains(&self.focal_gamma),
            "focal_gamma",
            "0 (off) or from 1 to 10",
            &self.focal_gamma,
        )?;
        let decay = self.layerwise_lr_decay;
        check(decay > 0.0 && decay <= 1.0, "layerwise_lr_decay", "above 0 and at most 1", &decay)?;
        if let Some(ClassWeights::Given(weights)) = &self.class_weights {
            for weight in weights {
                check(finite(*weight) && *weight >= 0.0, "class_weights", "0 or positive", weight)?;
            }
            check(weights.iter().any(|w| *w > 0.0), "class_weights", "positive for at least one label", &"all zero")?;
        }
        if let Some(ratio) = self.negative_ratio {
            check(finite(ratio) && ratio > 0.0, "negative_ratio", "positive", &ratio)?;
        }
        for (count, field) in [(self.eval_steps, "eval_steps"), (self.patience, "patience")] {
            check(count != Some(0), field, "at least 1", &0)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_names_round_trip() {
        for head in HeadKind::ALL {
            assert_eq!(head.name().parse::<HeadKind>().unwrap(), head);
            assert_eq!(serde_json::to_string(&head).unwrap(), format!("\"{head}\""));
        }
        assert!("cnn".parse::<HeadKind>().unwrap_err().to_string().contains("attention-no-cls"));
    }

    #[test]
    fn devices_round_trip() {
        for name in ["auto", "cpu", "cuda:0", "cuda:1", "reference"] {
            assert_eq!(name.parse::<Backend>().unwrap().to_string(), name);
        }
        assert_eq!("cuda".parse::<Backend>().unwrap(), Backend::Cuda(0));
        for name in ["gpu", "cuda:", "cuda:-1", "cuda:x", "CPU", ""] {
            assert!(name.parse::<Backend>().unwrap_err().to_string().contains("cuda:1"), "{name}");
        }
    }

    #[test]
    fn settings_out_of_range_name_the_field() {
        assert!(TrainingSettings::default().validate().is_ok());
        let refused = |settings: TrainingSettings, field: &str| {
            let message = settings.validate().unwrap_err().to_string();
            assert!(message.starts_with(field), "{message}");
        };
        let default = TrainingSettings::default;
        refused(TrainingSettings { learning_rate: f64::NAN, ..default() }, "learning_rate");
        refused(TrainingSettings { learning_rate: 0.0, ..default() }, "learning_rate");
        refused(TrainingSettings { batch_size: 0, ..default() }, "batch_size");
        refused(TrainingSettings { epochs: 0, ..default() }, "epochs");
        refused(TrainingSettings { max_steps: Some(1 << 32), ..default() }, "max_steps");
        refused(TrainingSettings { max_length: 8193, ..default() }, "max_length");
        refused(TrainingSettings { warmup_ratio: 1.5, ..default() }, "warmup_ratio");
        refused(TrainingSettings { weight_decay: -0.1, ..default() }, "weight_decay");
        refused(TrainingSettings { max_grad_norm: f64::INFINITY, ..default() }, "max_grad_norm");
        refused(TrainingSettings { adam_beta2: 1.0, ..default() }, "adam_beta2");
        refused(TrainingSettings { adam_epsilon: 0.0, ..default() }, "adam_epsilon");
        refused(TrainingSettings { dropout: Some(1.0), ..default() }, "dropout");
        refused(TrainingSettings { head_dropout: -0.1, ..default() }, "head_dropout");
        refused(TrainingSettings { gradient_accumulation_steps: 0, ..default() }, "gradient_accumulation_steps");
        refused(TrainingSettings { focal_gamma: 0.5, ..default() }, "focal_gamma");
        refused(TrainingSettings { layerwise_lr_decay: 0.0, ..default() }, "layerwise_lr_decay");
        let weights = |weights: &[f64]| Some(ClassWeights::Given(weights.to_vec()));
        refused(TrainingSettings { class_weights: weights(&[1.0, -1.0]), ..default() }, "class_weights");
        refused(TrainingSettings { class_weights: weights(&[0.0, 0.0]), ..default() }, "class_weights");
        refused(TrainingSettings { negative_ratio: Some(0.0), ..default() }, "negative_ratio");
        refused(TrainingSettings { negative_ratio: Some(f64::NAN), ..default() }, "negative_ratio");
        refused(TrainingSettings { eval_steps: Some(0), ..default() }, "eval_steps");
        refused(TrainingSettings { patience: Some(0), ..default() }, "patience");
    }
}
