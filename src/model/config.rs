//! The encoder's `config.json`, as transformers writes it.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::architecture::ModelType;
use crate::ops::SHORTEST_STRIDE;
use crate::{Error, Result};

/// Sizes and rates of an encoder. Unknown keys of the file are kept, so that a saved encoder
/// loses nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EncoderConfig {
    /// Architecture.
    #[serde(default = "bert")]
    pub model_type: ModelType,
    /// Rows of the word embedding.
    pub vocab_size: usize,
    /// H.
    pub hidden_size: usize,
    /// L.
    pub num_hidden_layers: usize,
    /// N; H must be a multiple.
    pub num_attention_heads: usize,
    /// Size of the feed-forward layer.
    pub intermediate_size: usize,
    /// `gelu` (with the error function).
    #[serde(default = "gelu")]
    pub hidden_act: String,
    /// Dropout of hidden states while training.
    #[serde(default = "tenth")]
    pub hidden_dropout_prob: f32,
    /// Dropout of attention probabilities while training.
    #[serde(default = "tenth")]
    pub attention_probs_dropout_prob: f32,
    /// Rows of the position embedding.
    pub max_position_embeddings: usize,
    /// Rows of the type embedding; row 0 is used.
    #[serde(default = "two")]
    pub type_vocab_size: usize,
    /// Added to the variance in LayerNorm.
    #[serde(default = "epsilon")]
    pub layer_norm_eps: f64,
    /// `absolute`.
    #[serde(default = "absolute")]
    pub position_embedding_type: String,
    /// Everything else in the file.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

fn bert() -> ModelType {
    ModelType::Bert
}
fn gelu() -> String {
    "gelu".into()
}
fn absolute() -> String {
    "absolute".into()
}
fn tenth() -> f32 {
    0.1
}
fn two() -> usize {
    2
}
fn epsilon() -> f64 {
    1e-12
}

/// Why a model of another architecture is refused, and what to choose instead.
fn unsupported(model_type: &str) -> String {
    let known = ModelType::ALL.map(ModelType::name).join(", ");
    format!(
        "model_type `{model_type}` is not supported; {known} are: choose one of them, such as biobert, biom-electra-base or \
         biomed-roberta"
    )
}

/// The keys that the others have, in architectures with keys of their own, which are kept: with those, and
/// transformers' defaults.
fn common_keys(model_type: Option<&str>) -> Vec<(&'static str, &'static str, serde_json::Value)> {
    match model_type.and_then(|name| name.parse().ok()) {
        Some(ModelType::ModernBert) => vec![
            ("hidden_act", "hidden_activation", json!("gelu")),
            ("layer_norm_eps", "norm_eps", json!(1e-5)),
            ("hidden_dropout_prob", "mlp_dropout", json!(0.0)),
            ("attention_probs_dropout_prob", "attention_dropout", json!(0.0)),
        ],
        Some(ModelType::DistilBert) => vec![
            ("hidden_act", "activation", json!("gelu")),
            ("hidden_size", "dim", json!(768)),
            ("num_hidden_layers", "n_layers", json!(6)),
            ("num_attention_heads", "n_heads", json!(12)),
            ("intermediate_size", "hidden_dim", json!(3072)),
            ("hidden_dropout_prob", "dropout", json!(0.1)),
            ("attention_probs_dropout_prob", "attention_dropout", json!(0.1)),
        ],
        // Its published files have GPT-2's keys, those of transformers the common ones.
        Some(ModelType::NomicBert) => vec![
            ("hidden_act", "hidden_act", json!("silu")),
            ("hidden_size", "n_embd", json!(768)),
            ("num_hidden_layers", "n_layer", json!(12)),
            ("num_attention_heads", "n_head", json!(12)),
            ("intermediate_size", "n_inner", json!(3072)),
            ("max_position_embeddings", "n_positions", json!(2048)),
            ("layer_norm_eps", "layer_norm_epsilon", json!(1e-12)),
        ],
        _ => vec![],
    }
}

fn with_common_keys(mut value: serde_json::Value) -> serde_json::Value {
    let present = |key| value.get(key).filter(|value| !value.is_null()).cloned();
    let found: Vec<_> = common_keys(value.get("model_type").and_then(|kind| kind.as_str()))
        .into_iter()
        .map(|(common, own, default)| (common, present(own).or_else(|| present(common)).unwrap_or(default)))
        .collect();
    for (common, found) in found {
        value[common] = found;
    }
    value
}

/// Whether the value of a key states that a part exists.
fn is_set(value: &serde_json::Value) -> bool {
    use serde_json::Value;
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(entries) => !entries.is_empty(),
        _ => true,
    }
}

impl EncoderConfig {
    /// Read `config.json` (or the original release's `bert_config.json`) of a model directory.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when the directory has neither, or the file is not the configuration of an
    /// encoder that biorel computes.
    pub fn open(directory: &Path) -> Result<Self> {
        let names = ["config.json", "bert_config.json"];
        let Some(path) = names.iter().map(|name| directory.join(name)).find(|path| path.is_file()) else {
            let message = "not a model directory: it has neither config.json nor bert_config.json";
            return Err(Error::checkpoint(directory, message));
        };
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
        let invalid = |e| Error::checkpoint(&path, format!("not an encoder's configuration: {e}"));
        // Other architectures have other keys, so their type is the reason, not a key that is missing.
        let value: serde_json::Value = serde_json::from_str(&text).map_err(invalid)?;
        if let Some(kind) = value.get("model_type").and_then(|kind| kind.as_str()) {
            kind.parse::<ModelType>().map_err(|_| Error::checkpoint(&path, unsupported(kind)))?;
        }
        let config: Self = serde_json::from_value(with_common_keys(value)).map_err(invalid)?;
        config.validate(&path)?;
        Ok(config)
    }

    /// Refuse what the encoder cannot compute, and sizes no BERT has (before anything is
    /// allocated).
    ///
    /// # Errors
    /// [`Error::Checkpoint`] naming `path` and the key.
    pub fn validate(&self, path: &Path) -> Result<()> {
        let refuse = |message: String| Err(Error::checkpoint(path, message));
        let activation = if self.model_type == ModelType::NomicBert { "silu" } else { "gelu" };
        if self.hidden_act != activation {
            return refuse(format!("hidden_act `{}` is not supported; only `{activation}` is", self.hidden_act));
        }
        if self.position_embedding_type != "absolute" {
            let kind = &self.position_embedding_type;
            return refuse(format!("position_embedding_type `{kind}` is not supported; only `absolute` is"));
        }
        // The weights of a decoder, or with pruned heads, have the same names and sizes but belong to a different computation.
        for key in ["is_decoder", "add_cross_attention", "is_encoder_decoder", "pruned_heads", "quantization_config"] {
            if let Some(value) = self.other.get(key).filter(|value| is_set(value)) {
                let message = format!("{key} is {value}: biorel computes a plain encoder only, and would ignore it");
                return refuse(message);
            }
        }
        if self.model_type == ModelType::ModernBert {
            for key in ["norm_bias", "attention_bias", "mlp_bias"] {
                if self.other.get(key).is_some_and(is_set) {
                    return refuse(format!("{key} is true: a ModernBERT with these biases is not supported"));
                }
            }
            for (layer, kind) in (0..self.num_hidden_layers).map(|layer| (layer, self.layer_type(layer))) {
                let rotation = self.rotation(kind);
                if kind == "other" || rotation.is_none_or(|theta| !(theta.is_finite() && theta > 0.0)) {
                    return refuse(format!(
                        "layer_types, rope_parameters: layer {layer} is neither full_attention nor sliding_attention with \
                         rope_type `default` and a positive rope_theta"
                    ));
                }
            }
        }
        self.validate_frozen().or_else(refuse)?;
        // DeBERTa has no types.
        let types = if self.model_type == ModelType::DebertaV2 { 1 } else { self.type_vocab_size };
        for (key, value, limit) in [
            ("vocab_size", self.vocab_size, 10_000_000),
            ("hidden_size", self.hidden_size, 16_384),
            ("num_hidden_layers", self.num_hidden_layers, 1_000),
            ("num_attention_heads", self.num_attention_heads, 1_024),
            ("intermediate_size", self.intermediate_size, 131_072),
            ("max_position_embeddings", self.max_position_embeddings, 1_000_000),
            ("type_vocab_size", types, 1_024),
            ("embedding_size", self.embedding_size(), 16_384),
        ] {
            if value == 0 || value > limit {
                return refuse(format!("{key} is {value}; it must be from 1 to {limit}"));
            }
        }
        if self.longest() == 0 {
            let (positions, first) = (self.max_position_embeddings, self.first_position());
            return refuse(format!(
                "max_position_embeddings is {positions}, and the first piece has position {first} (pad_token_id + 1)"
            ));
        }
        let rotary = matches!(self.model_type, ModelType::ModernBert | ModelType::NomicBert);
        let columns = if rotary { 2 } else { 1 };
        if !self.hidden_size.is_multiple_of(columns * self.num_attention_heads) {
            return refuse(format!(
                "hidden_size {} is not a multiple of num_attention_heads {}{}",
                self.hidden_size,
                self.num_attention_heads,
                if columns == 2 { " with an even size of heads" } else { "" }
            ));
        }
        for (key, rate) in [
            ("hidden_dropout_prob", self.hidden_dropout_prob),
            ("attention_probs_dropout_prob", self.attention_probs_dropout_prob),
        ] {
            if !(0.0..1.0).contains(&rate) {
                return refuse(format!("{key} is {rate}; it must be from 0 to below 1"));
            }
        }
        if !(self.layer_norm_eps.is_finite() && self.layer_norm_eps > 0.0) {
            return refuse(format!("layer_norm_eps is {}; it must be positive", self.layer_norm_eps));
        }
        Ok(())
    }

    /// What candle-transformers does not compute, or computes otherwise than transformers.
    fn validate_frozen(&self) -> std::result::Result<(), String> {
        let other = |key: &str| self.other.get(key).filter(|value| is_set(value));
        let refuse = |key: &str, value: &serde_json::Value| {
            Err(format!("{key} is {value}, which candle-transformers does not compute for `{}`", self.model_type))
        };
        match self.model_type {
            ModelType::DebertaV2 => {
                if let Some(value) = other("conv_kernel_size").filter(|value| *value != 0) {
                    return refuse("conv_kernel_size", value);
                }
                for key in ["embedding_size", "attention_head_size"] {
                    let usual = if key == "embedding_size" { 1 } else { self.num_attention_heads.max(1) };
                    if let Some(value) = other(key).filter(|value| **value != self.hidden_size / usual) {
                        return refuse(key, value);
                    }
                }
                for key in ["position_buckets", "max_relative_positions"] {
                    let outside =
                        |value: &&serde_json::Value| !value.as_i64().is_some_and(|n| (-1..=1_000_000).contains(&n));
                    if let Some(value) = other(key).filter(outside) {
                        return refuse(key, value);
                    }
                }
                let kinds = other("pos_att_type").map(|value| match value {
                    serde_json::Value::String(text) => text.split('|').map(str::to_owned).collect(),
                    list => {
                        serde_json::from_value::<Vec<String>>(list.clone()).unwrap_or_else(|_| vec![list.to_string()])
                    }
                });
                if let Some(kind) = kinds.iter().flatten().find(|kind| !["c2p", "p2c"].contains(&kind.as_str())) {
                    return refuse("pos_att_type", &json!(kind));
                }
                Ok(())
            }
            ModelType::NomicBert => {
                for key in ["prenorm", "use_rms_norm", "rotary_emb_interleaved", "rotary_scaling_factor", "num_experts"]
                {
                    if let Some(value) = other(key).filter(|value| *value != 0) {
                        return refuse(key, value);
                    }
                }
                let depth = self.hidden_size / self.num_attention_heads.max(1);
                if let Some(value) = other("head_dim").filter(|value| **value != depth) {
                    return refuse("head_dim", value);
                }
                for (key, usual) in [("rotary_emb_fraction", json!(1.0)), ("activation_function", json!("swiglu"))] {
                    if let Some(value) = other(key).filter(|value| **value != usual && value.as_f64() != Some(1.0)) {
                        return refuse(key, value);
                    }
                }
                match self.nomic_theta().filter(|theta| theta.is_finite() && *theta > 0.0) {
                    Some(_) => Ok(()),
                    None => Err("rotary_emb_base, rope_parameters: the base of the angles is not positive".into()),
                }
            }
            _ => Ok(()),
        }
    }

    /// The base of the angles of NomicBERT's positions.
    pub(super) fn nomic_theta(&self) -> Option<f64> {
        let parameters = self.other.get("rope_parameters").filter(|own| !own.is_null());
        if parameters.and_then(|own| own.get("rope_type")).is_some_and(|rope| rope != "default") {
            return None;
        }
        let theta = parameters.and_then(|own| own.get("rope_theta")).or_else(|| self.other.get("rotary_emb_base"));
        theta.map_or(Some(1000.0), |theta| theta.as_f64())
    }

    /// A whole number among the keys that only some architectures have.
    fn number(&self, key: &str) -> Option<usize> {
        self.other.get(key)?.as_u64().map(|number| number as usize)
    }

    /// Width of the embeddings, E. In ELECTRA they may be narrower than H.
    pub fn embedding_size(&self) -> usize {
        match self.model_type {
            ModelType::Electra => self.number("embedding_size").unwrap_or(128), // transformers' default
            _ => self.hidden_size,
        }
    }

    /// The row of the position embedding for the first piece of a sentence. In RoBERTa the rows before
    /// it belong to padding (`create_position_ids_from_input_ids` of transformers).
    pub fn first_position(&self) -> usize {
        match self.model_type {
            ModelType::Roberta | ModelType::XlmRoberta => self.number("pad_token_id").unwrap_or(1).saturating_add(1),
            _ => 0,
        }
    }

    /// Whether LayerNorm comes before the attention and before the feed-forward layer (Xiong et al.
    /// 2020), not after them.
    pub fn pre_norm(&self) -> bool {
        matches!(self.model_type, ModelType::MegatronBert | ModelType::ModernBert)
    }

    /// Whether there are biases in products and LayerNorm, and the feed-forward layer is a GELU, rather
    /// than one with a gate (Shazeer 2020) and no biases.
    pub fn has_biases(&self) -> bool {
        self.model_type != ModelType::ModernBert
    }

    /// Which biases the masked language model has above the encoder: of its transform, of the LayerNorm, and
    /// of the decoder.
    pub fn decoder_biases(&self) -> [bool; 3] {
        let has = |key, default| self.other.get(key).map_or(default, is_set);
        match self.model_type {
            ModelType::ModernBert => [has("classifier_bias", false), false, has("decoder_bias", true)],
            _ => [true; 3],
        }
    }

    /// Why the language model that transformers builds above the encoder is not biorel's.
    pub fn other_decoder(&self) -> Option<String> {
        let other = |key: &str, ours: serde_json::Value| self.other.get(key).filter(|value| **value != ours);
        if let Some(value) = other("tie_word_embeddings", json!(true)) {
            return Some(format!("tie_word_embeddings is {value}; the decoder must be the word embedding"));
        }
        let activation =
            other("classifier_activation", json!("gelu")).filter(|_| self.model_type == ModelType::ModernBert);
        activation.map(|value| format!("classifier_activation is {value}; only `gelu` is supported"))
    }

    /// What transformers calls the attention of a layer: `full_attention` or `sliding_attention`.
    fn layer_type(&self, layer: usize) -> &'static str {
        const KINDS: [&str; 2] = ["full_attention", "sliding_attention"];
        if let Some(types) = self.other.get("layer_types").filter(|types| !types.is_null()) {
            let kind = types.get(layer).and_then(|kind| kind.as_str()).unwrap_or_default();
            return KINDS.into_iter().find(|known| *known == kind).unwrap_or("other");
        }
        let every = self.number("global_attn_every_n_layers").unwrap_or(3).max(1);
        KINDS[usize::from(!layer.is_multiple_of(every))]
    }

    /// Base of the angles of the layers with this attention; `None` if it is not a number.
    fn rotation(&self, kind: &str) -> Option<f64> {
        let (older, default) =
            if kind == "full_attention" { ("global_rope_theta", 160_000.0) } else { ("local_rope_theta", 10_000.0) };
        let parameters = self.other.get("rope_parameters").and_then(|all| all.get(kind)).filter(|own| !own.is_null());
        if parameters.and_then(|own| own.get("rope_type")).is_some_and(|rope| rope != "default") {
            return None;
        }
        let theta = parameters.and_then(|own| own.get("rope_theta")).or_else(|| self.other.get(older));
        theta.map_or(Some(default), |theta| theta.as_f64())
    }

    /// The base of a layer's rotary position embedding; `None` for encoders with a table of positions.
    pub fn theta(&self, layer: usize) -> Option<f64> {
        (self.model_type == ModelType::ModernBert).then(|| self.rotation(self.layer_type(layer))).flatten()
    }

    /// How far a layer's tokens attend to each side; `None`: to all tokens.
    pub fn window(&self, layer: usize) -> Option<usize> {
        let local = self.model_type == ModelType::ModernBert && self.layer_type(layer) == "sliding_attention";
        local.then(|| self.number("local_attention").unwrap_or(128) / 2)
    }

    /// Elements between two rows of the counter of the attention's dropout
    /// ([`crate::ops::AttentionShape::stride`]): room for the longest sentence, or where that has fewer
    /// than 512 pieces, for the markers behind them too.
    pub fn attention_stride(&self) -> usize {
        self.longest().max(SHORTEST_STRIDE).next_multiple_of(4)
    }

    /// The longest sentence that this encoder accepts, in word pieces.
    pub fn longest(&self) -> usize {
        let positions = self.max_position_embeddings.saturating_sub(self.first_position());
        match self.model_type {
            // Beyond these NomicBERT needs other angles, which candle-transformers does not compute.
            ModelType::NomicBert => positions.min(self.number("max_trained_positions").unwrap_or(positions)),
            _ => positions,
        }
    }
}
