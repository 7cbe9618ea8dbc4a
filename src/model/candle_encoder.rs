//! Encoders that candle-transformers computes: no backward, so they are only ever frozen.
//!
//! Their parameters are candle tensors under the names of the published files, and no parameters of the
//! network. A model is built for every batch, because it borrows its tensors and building is cheap;
//! sentences of equal length are computed together, so that there is no padding.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::VarBuilder;
use candle_nn::var_builder::SimpleBackend;
use candle_transformers::models::{debertav2, nomic_bert};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::architecture::ModelType;
use super::encoder::{self, EncoderOutput, OutputSpec};
use super::params::{ParamSpec, Weights, encoder_specs};
use crate::digest::hex;
use crate::encode::Batch;
use crate::model::EncoderConfig;
use crate::ops::Ops;
use crate::{Error, Result};

/// A frozen encoder with its parameters.
pub struct CandleEncoder {
    config: EncoderConfig,
    specs: Vec<ParamSpec>,
    /// On the CPU.
    tensors: HashMap<String, Tensor>,
    /// On the device that computed last, if that is another.
    moved: Mutex<Option<(Device, HashMap<String, Tensor>)>>,
    hash: OnceLock<String>,
}

/// By its identity.
impl fmt::Debug for CandleEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CandleEncoder {}", self.content_hash())
    }
}

/// Of candle-transformers.
enum Model {
    DebertaV2(Box<debertav2::DebertaV2Model>),
    NomicBert(Box<nomic_bert::NomicBertModel>),
}

impl Model {
    /// The lower `layers` of an encoder, for sentences of at most `longest` pieces.
    fn build(config: &EncoderConfig, builder: VarBuilder<'_>, layers: usize, longest: usize) -> Result<Self> {
        Ok(match config.model_type {
            ModelType::NomicBert => {
                let config = nomic_bert(config, layers, longest);
                Self::NomicBert(Box::new(nomic_bert::NomicBertModel::load(builder, &config)?))
            }
            _ => {
                let config = deberta_v2(config, layers)?;
                Self::DebertaV2(Box::new(debertav2::DebertaV2Model::load(builder, &config)?))
            }
        })
    }

    /// The last layer of sentences without padding, `(n, pieces, H)`.
    fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::DebertaV2(model) => model.forward(ids, None, None)?,
            Self::NomicBert(model) => model.forward(ids, None, None)?,
        })
    }
}

fn nomic_bert(config: &EncoderConfig, layers: usize, longest: usize) -> nomic_bert::Config {
    let set = |key| config.other.get(key).is_some_and(|value| value == true);
    nomic_bert::Config {
        vocab_size: config.vocab_size,
        n_embd: config.hidden_size,
        n_head: config.num_attention_heads,
        n_layer: layers,
        n_inner: config.intermediate_size,
        n_positions: longest, // rows of its table of angles
        type_vocab_size: config.type_vocab_size,
        layer_norm_epsilon: config.layer_norm_eps,
        rotary_emb_fraction: 1.0,
        rotary_emb_base: config.nomic_theta().unwrap_or(f64::NAN), // validated
        rotary_emb_interleaved: false,
        qkv_proj_bias: set("qkv_proj_bias"),
        mlp_fc1_bias: set("mlp_fc1_bias"),
        mlp_fc2_bias: set("mlp_fc2_bias"),
        activation_function: "swiglu".into(),
        prenorm: false,
        model_type: None,
    }
}

fn deberta_v2(config: &EncoderConfig, layers: usize) -> Result<debertav2::Config> {
    let unreadable = |e: serde_json::Error| Error::config("config", format!("not a DeBERTa's configuration: {e}"));
    let mut value = serde_json::to_value(config).map_err(unreadable)?;
    // transformers' defaults of keys that candle-transformers requires.
    for (key, default) in [
        ("initializer_range", json!(0.02)),
        ("relative_attention", json!(false)),
        ("max_relative_positions", json!(-1)),
        ("position_biased_input", json!(true)),
        ("pos_att_type", json!([])),
    ] {
        if value.get(key).is_none_or(Value::is_null) {
            value[key] = default;
        }
    }
    for key in ["id2label", "label2id", "pooler_hidden_act", "pooler_dropout", "pooler_hidden_size", "cls_dropout"] {
        value[key] = Value::Null; // of its classifiers
    }
    value["num_hidden_layers"] = json!(layers);
    serde_json::from_value(value).map_err(unreadable)
}

/// The names and shapes of all parameters of an encoder, as they are read and written: those of the
/// engine's own, or those that candle-transformers asks for.
///
/// # Errors
/// [`Error::Config`] and [`Error::Tensor`] for a configuration that candle-transformers refuses.
pub fn stored_specs(config: &EncoderConfig) -> Result<Vec<ParamSpec>> {
    if config.model_type.is_trainable() {
        return Ok(encoder_specs(config));
    }
    let declared = Declared::default();
    let builder = VarBuilder::from_backend(Box::new(&declared), DType::F32, Device::Cpu);
    Model::build(config, builder, config.num_hidden_layers, 1)?;
    Ok(declared.specs.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Lists the parameters that a model asks for.
#[derive(Default)]
struct Declared {
    specs: Mutex<Vec<ParamSpec>>,
}

impl SimpleBackend for &Declared {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        init: candle_nn::Init,
        _: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let spec = ParamSpec::new(name, shape.dims(), init.into());
        self.specs.lock().unwrap_or_else(PoisonError::into_inner).push(spec);
        Tensor::zeros((), DType::F32, device)?.broadcast_as(shape) // allocates nothing of its size
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        Err(candle_core::Error::CannotFindTensor { path: name.to_owned() })
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

impl CandleEncoder {
    /// The encoder with the values of [`stored_specs`].
    ///
    /// # Errors
    /// [`Error::Tensor`] when a value has not the size of its shape.
    pub fn new(config: &EncoderConfig, weights: Weights) -> Result<Self> {
        let tensors = weights.specs.iter().zip(weights.values);
        let tensors = tensors.map(|(spec, values)| {
            Ok((spec.name.clone(), Tensor::from_vec(values, spec.shape.as_slice(), &Device::Cpu)?))
        });
        let tensors = tensors.collect::<Result<_>>()?;
        Ok(Self {
            config: config.clone(),
            specs: weights.specs,
            tensors,
            moved: Mutex::default(),
            hash: OnceLock::new(),
        })
    }

    /// Its parameters, as they are stored.
    ///
    /// # Errors
    /// [`Error::Tensor`].
    pub fn weights(&self) -> Result<Weights> {
        let values = |spec: &ParamSpec| Ok(self.tensors[&spec.name].flatten_all()?.to_vec1()?);
        let values = self.specs.iter().map(values).collect::<Result<_>>()?;
        Ok(Weights { specs: self.specs.clone(), values })
    }

    /// SHA-256, in hexadecimal, of configuration and parameters.
    pub fn content_hash(&self) -> &str {
        self.hash.get_or_init(|| {
            let mut hash = Sha256::new();
            // What a configuration says beyond the common keys differs between files of the same model.
            hash.update(match self.config.model_type {
                ModelType::NomicBert => format!("{:?}", nomic_bert(&self.config, self.config.num_hidden_layers, 1)),
                _ => format!("{:?}", deberta_v2(&self.config, self.config.num_hidden_layers).ok()),
            });
            for spec in &self.specs {
                hash.update(&spec.name);
                // Tensors on the CPU in f32 can always be read.
                let values = self.tensors[&spec.name].flatten_all().and_then(|all| all.to_vec1::<f32>());
                let values = values.unwrap_or_default();
                hash.update(values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
            }
            hex(hash)
        })
    }

    /// How many sentences the model takes together: candle-transformers adds position embeddings to a
    /// single one.
    fn at_once(&self) -> usize {
        let positions = self.config.other.get("position_biased_input").is_none_or(|value| value != false);
        if self.config.model_type == ModelType::DebertaV2 && positions { 1 } else { usize::MAX }
    }

    fn tensors_on(&self, device: &Device) -> Result<HashMap<String, Tensor>> {
        if device.is_cpu() {
            return Ok(self.tensors.clone());
        }
        let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, tensors)) = moved.as_ref().filter(|(last, _)| last.same_device(device)) {
            return Ok(tensors.clone());
        }
        let move_one = |spec: &ParamSpec| Ok((spec.name.clone(), self.tensors[&spec.name].to_device(device)?));
        let tensors: HashMap<_, _> = self.specs.iter().map(move_one).collect::<Result<_>>()?;
        *moved = Some((device.clone(), tensors.clone()));
        Ok(tensors)
    }

    /// The hidden states of a batch of sentences without markers and padding.
    ///
    /// # Errors
    /// As [`encoder::forward`].
    pub fn forward<O: Ops>(&self, ops: &O, batch: &Batch, spec: OutputSpec) -> Result<EncoderOutput<O::Buffer>> {
        encoder::check(&self.config, batch)?;
        let device = ops.to_candle(&ops.zeros(&[1])?)?.device().clone();
        let tensors = self.tensors_on(&device)?;
        let top = self.config.num_hidden_layers;
        // candle-transformers returns the last layer alone, so that of a lower one is that of a shorter
        // model, which shares the tensors.
        let lowest = if spec.cls_of_layers { 1 } else { top };
        let mut outputs = (lowest..=top).map(|layers| {
            let builder = VarBuilder::from_tensors(tensors.clone(), DType::F32, &device);
            let model = Model::build(&self.config, builder, layers, batch.longest())?;
            last_layer(&model, self.at_once(), batch, &device, layers < top) // (T, H), or below the top (n, H)
        });
        let last = outputs.next_back().unwrap_or_else(|| unreachable!("an encoder has a layer"))?;
        let mut cls = outputs.map(|of_layer| ops.upload_candle(&of_layer?)).collect::<Result<Vec<_>>>()?;
        let select = |rows: &[usize]| {
            let rows: Vec<u32> = rows.iter().map(|row| *row as u32).collect();
            ops.upload_candle(&last.index_select(&Tensor::new(rows, &device)?, 0)?)
        };
        if spec.cls_of_layers {
            cls.push(select(batch.first_tokens())?);
        }
        let last = match spec.rows(batch) {
            Some(rows) => select(&rows)?,
            None => ops.upload_candle(&last)?,
        };
        Ok(EncoderOutput { last, cls })
    }
}

/// The last layer of a batch, `(T, H)`, or with `cls` that of the first tokens, `(n, H)`, computed for up to
/// `at_once` sentences together.
fn last_layer(model: &Model, at_once: usize, batch: &Batch, device: &Device, cls: bool) -> Result<Tensor> {
    let mut by_length: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (sentence, bounds) in batch.cu_seqlens.windows(2).enumerate() {
        by_length.entry(bounds[1] - bounds[0]).or_default().push(sentence);
    }
    let mut states: Vec<Option<Tensor>> = vec![None; batch.cu_seqlens.len() - 1];
    let chunks = by_length.iter().flat_map(|(length, all)| all.chunks(at_once).map(move |some| (*length, some)));
    for (length, sentences) in chunks {
        let ids: Vec<u32> =
            sentences.iter().flat_map(|s| &batch.ids[batch.cu_seqlens[*s]..][..length]).copied().collect();
        let ids = Tensor::from_vec(ids, (sentences.len(), length), device)?;
        let hidden = model.forward(&ids)?; // (sentences, length, H)
        for (row, sentence) in sentences.iter().enumerate() {
            states[*sentence] = Some(hidden.get(row)?.narrow(0, 0, if cls { 1 } else { length })?);
        }
    }
    Ok(Tensor::cat(&states.into_iter().flatten().collect::<Vec<_>>(), 0)?)
}
