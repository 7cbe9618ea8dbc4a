//! What distinguishes the encoders beyond their sizes. The forward and backward are written once
//! (`encoder.rs`), over this description.
//!
//! | `model_type` | LayerNorm | positions | embeddings | feed-forward |
//! |---|---|---|---|---|
//! | `bert` (Devlin et al. 2019) | after each sublayer | absolute | H wide | GELU |
//! | `distilbert` (Sanh et al. 2019) | after | absolute | H wide, without types | GELU |
//! | `electra` (Clark et al. 2020) | after | absolute | E wide, projected to H if E ≠ H | GELU |
//! | `roberta` (Liu et al. 2019), `xlm-roberta` (Conneau et al. 2020) | after | absolute, from the padding's index + 1 | H wide | GELU |
//! | `megatron-bert` (Shoeybi et al. 2019) | before, and at the end | absolute | H wide, without LayerNorm | GELU |
//! | `modernbert` (Warner et al. 2024) | before, and at the end | rotary; attention global or local | words alone | GELU with a gate, no biases |
//!
//! `deberta-v2` (He et al. 2021; also version 3) and `nomic_bert` (Nussbaum et al. 2024) are computed by
//! candle-transformers (`candle_encoder.rs`), which has no backward: they can only be frozen.

use std::fmt;

use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

/// An architecture, by the name that transformers gives it in `config.json`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, IntoStaticStr, VariantArray)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum ModelType {
    /// BERT.
    Bert,
    /// DistilBERT.
    #[serde(rename = "distilbert")]
    #[strum(serialize = "distilbert")]
    DistilBert,
    /// ELECTRA.
    Electra,
    /// RoBERTa.
    Roberta,
    /// XLM-RoBERTa.
    XlmRoberta,
    /// Megatron's BERT, such as GatorTron and BioMegatron.
    MegatronBert,
    /// ModernBERT.
    #[serde(rename = "modernbert")]
    #[strum(serialize = "modernbert")]
    ModernBert,
    /// DeBERTa, versions 2 and 3.
    DebertaV2,
    /// NomicBERT.
    #[serde(rename = "nomic_bert")]
    #[strum(serialize = "nomic_bert")]
    NomicBert,
}

named!(ModelType, "model_type");

/// As the text that it is in the file: encoders are identified by it.
impl fmt::Debug for ModelType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.name(), f)
    }
}

/// The names of an encoder's tensors in transformers, without [`Names::prefix`].
#[derive(Debug)]
pub struct Names {
    /// The class of the encoder, for `architectures`.
    pub class: &'static str,
    /// What models with a head of their own put before the names.
    pub prefix: &'static str,
    /// Whether the class has a pooler.
    pub pooler: bool,
    /// The word embedding.
    pub words: &'static str,
    /// Position embeddings.
    pub positions: Option<&'static str>,
    /// Type embeddings.
    pub types: Option<&'static str>,
    /// LayerNorm of the embeddings.
    pub embeddings_norm: Option<&'static str>,
    /// Before the number of a layer.
    pub layer: &'static str,
    /// Queries, keys and values, which files may have apart ([`SEPARATE`]).
    pub qkv: &'static str,
    /// Attention output.
    pub attention_out: &'static str,
    /// LayerNorm of the attention.
    pub attention_norm: &'static str,
    /// Feed-forward, first.
    pub up: &'static str,
    /// Feed-forward, second.
    pub down: &'static str,
    /// LayerNorm of the feed-forward layer.
    pub feed_forward_norm: &'static str,
    /// LayerNorm of the last layer's output.
    pub final_norm: Option<&'static str>,
    /// The masked language model, if biorel can train it: the transform, its LayerNorm, and the decoder's
    /// bias.
    pub language_model: Option<[&'static str; 3]>,
}

const BERT: Names = Names {
    class: "BertModel",
    prefix: "bert.",
    pooler: true,
    words: "embeddings.word_embeddings.weight",
    positions: Some("embeddings.position_embeddings.weight"),
    types: Some("embeddings.token_type_embeddings.weight"),
    embeddings_norm: Some("embeddings.LayerNorm"),
    layer: "encoder.layer",
    qkv: "attention.self.qkv",
    attention_out: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    feed_forward_norm: "output.LayerNorm",
    final_norm: None,
    language_model: Some([
        "cls.predictions.transform.dense",
        "cls.predictions.transform.LayerNorm",
        "cls.predictions.bias",
    ]),
};

/// What stands for the `qkv` of a name where queries, keys and values are stored apart.
pub const SEPARATE: [(&str, [&str; 3]); 2] =
    [(".self.qkv.", [".self.query.", ".self.key.", ".self.value."]), (".qkv_lin.", [".q_lin.", ".k_lin.", ".v_lin."])];

const DISTIL_BERT: Names = Names {
    class: "DistilBertModel",
    prefix: "distilbert.",
    pooler: false,
    types: None,
    layer: "transformer.layer",
    qkv: "attention.qkv_lin",
    attention_out: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    up: "ffn.lin1",
    down: "ffn.lin2",
    feed_forward_norm: "output_layer_norm",
    language_model: Some(["vocab_transform", "vocab_layer_norm", "vocab_projector.bias"]),
    ..BERT
};

const ELECTRA: Names = Names {
    class: "ElectraModel",
    prefix: "electra.",
    pooler: false,
    language_model: Some(["generator_predictions.dense", "generator_predictions.LayerNorm", "generator_lm_head.bias"]),
    ..BERT
};

const ROBERTA: Names = Names {
    class: "RobertaModel",
    prefix: "roberta.",
    language_model: Some(["lm_head.dense", "lm_head.layer_norm", "lm_head.bias"]),
    ..BERT
};

const XLM_ROBERTA: Names = Names { class: "XLMRobertaModel", ..ROBERTA };

const MEGATRON_BERT: Names = Names {
    class: "MegatronBertModel",
    embeddings_norm: None,
    attention_norm: "attention.ln",
    feed_forward_norm: "ln",
    final_norm: Some("encoder.ln"),
    ..BERT
};

const MODERN_BERT: Names = Names {
    class: "ModernBertModel",
    prefix: "model.",
    pooler: false,
    words: "embeddings.tok_embeddings.weight",
    positions: None,
    types: None,
    embeddings_norm: Some("embeddings.norm"),
    layer: "layers",
    qkv: "attn.Wqkv",
    attention_out: "attn.Wo",
    attention_norm: "attn_norm",
    up: "mlp.Wi",
    down: "mlp.Wo",
    feed_forward_norm: "mlp_norm",
    final_norm: Some("final_norm"),
    language_model: Some(["head.dense", "head.norm", "decoder.bias"]),
};

/// candle-transformers names the parameters of these; biorel reads the class and the prefix.
const DEBERTA_V2: Names =
    Names { class: "DebertaV2Model", prefix: "deberta.", pooler: false, language_model: None, ..BERT };

const NOMIC_BERT: Names = Names { class: "NomicBertModel", prefix: "bert.", ..DEBERTA_V2 };

impl ModelType {
    /// Whether the engine's own encoder computes it, and so can train it.
    pub fn is_trainable(self) -> bool {
        !matches!(self, Self::DebertaV2 | Self::NomicBert)
    }

    /// The names of its tensors.
    pub fn names(self) -> &'static Names {
        match self {
            Self::Bert => &BERT,
            Self::DistilBert => &DISTIL_BERT,
            Self::Electra => &ELECTRA,
            Self::Roberta => &ROBERTA,
            Self::XlmRoberta => &XLM_ROBERTA,
            Self::MegatronBert => &MEGATRON_BERT,
            Self::ModernBert => &MODERN_BERT,
            Self::DebertaV2 => &DEBERTA_V2,
            Self::NomicBert => &NOMIC_BERT,
        }
    }
}
