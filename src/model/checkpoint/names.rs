//! Canonical names of tensors: those of transformers' class of the encoder, such as `BertModel`.
//!
//! | in the file | here |
//! |---|---|
//! | `bert.X` (`electra.X`, `roberta.X`, ...), `module.X` (torch's DataParallel) | `X` |
//! | `LayerNorm.gamma`, `LayerNorm.beta` | `LayerNorm.weight`, `LayerNorm.bias` |
//! | TensorFlow `bert/encoder/layer_3/output/dense/kernel` | `encoder.layer.3.output.dense.weight`, transposed |
//! | TensorFlow `bert/embeddings/word_embeddings` | `embeddings.word_embeddings.weight` |
//! | Flax `kernel`, `embedding`, `scale` | `weight`, kernels transposed |

use std::collections::BTreeMap;

use super::format::Format;
use super::stored::{Contents, Stored};
use crate::model::ParamSpec;
use crate::model::architecture::SEPARATE;

/// A tensor under its canonical name.
#[derive(Debug, Clone)]
pub(super) struct Named {
    /// Its name in the file.
    pub(super) original: String,
    /// Its position, axes in transformers' order.
    pub(super) stored: Stored,
}

/// The tensors of a checkpoint by canonical name. Where two tensors have the same one, the shorter
/// original name is used and the other is reported as unused. `prefix` is `bert.` or that of another
/// architecture.
pub(super) fn canonical(contents: &Contents, prefix: &str) -> BTreeMap<String, Named> {
    let mut named: BTreeMap<String, Named> = BTreeMap::new();
    for (original, stored) in &contents.tensors {
        let Some((name, kernel)) = rename(contents.format, prefix, original) else { continue };
        let shorter = |other: &Named| other.original.len() <= original.len();
        if named.get(&name).is_some_and(shorter) {
            continue;
        }
        let stored = if kernel { stored.clone().transposed() } else { stored.clone() };
        named.insert(name, Named { original: original.clone(), stored });
    }
    named
}

/// The canonical name, and whether it is a kernel with reversed axes; `None` for optimizer slots.
fn rename(format: Format, prefix: &str, original: &str) -> Option<(String, bool)> {
    let (dotted, kernel) = match format {
        Format::Safetensors | Format::PyTorch | Format::PyTorchLegacy => (original.to_string(), false),
        Format::TensorFlow => tensorflow(original)?,
        Format::Flax => match original.rsplit_once('.') {
            Some((head, "kernel")) => (format!("{head}.weight"), true),
            Some((head, "embedding" | "scale")) => (format!("{head}.weight"), false),
            _ => (original.to_string(), false),
        },
    };
    let short = dotted.strip_prefix("module.").unwrap_or(&dotted);
    let short = short.strip_prefix(prefix).unwrap_or(short);
    let name = match short.rsplit_once("LayerNorm.") {
        Some((head, "gamma")) => format!("{head}LayerNorm.weight"),
        Some((head, "beta")) => format!("{head}LayerNorm.bias"),
        _ => short.to_string(),
    };
    Some((name, kernel))
}

/// The last parts of the names of optimizer slots and counters, below the variable that they belong
/// to.
const SLOTS: [&str; 7] = ["adam_m", "adam_v", "Adam", "Adam_1", "LAMB", "LAMB_1", "BERTAdam"];

fn tensorflow(original: &str) -> Option<(String, bool)> {
    let parts: Vec<&str> = original.split('/').collect();
    let (last, scopes) = parts.split_last()?;
    if SLOTS.contains(last) || last.ends_with("_power") || *last == "global_step" {
        return None;
    }
    let mut name = String::new();
    for scope in scopes {
        match scope.strip_prefix("layer_") {
            Some(number) if number.bytes().all(|b| b.is_ascii_digit()) => name.extend(["layer.", number, "."]),
            _ => name.extend([scope, "."]),
        }
    }
    Some(match *last {
        "kernel" => (name + "weight", true),
        table if table.ends_with("_embeddings") => (name + table + ".weight", false),
        "output_bias" if name == "cls.predictions." => (name + "bias", false),
        other => (name + other, false),
    })
}

/// The names and shapes under which a parameter is stored: three for queries, keys and values, else
/// one.
pub(super) fn stored_names(spec: &ParamSpec) -> Vec<(String, Vec<usize>)> {
    let Some((joined, parts)) = SEPARATE.iter().find(|(joined, _)| spec.name.contains(joined)) else {
        return vec![(spec.name.clone(), spec.shape.clone())];
    };
    let mut shape = spec.shape.clone();
    if let Some(rows) = shape.first_mut() {
        *rows /= 3;
    }
    parts.map(|part| (spec.name.replace(joined, part), shape.clone())).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        let cases = [
            (Format::Safetensors, "bert.embeddings.LayerNorm.gamma", Some(("embeddings.LayerNorm.weight", false))),
            (Format::PyTorch, "module.bert.pooler.dense.bias", Some(("pooler.dense.bias", false))),
            (
                Format::PyTorchLegacy,
                "encoder.layer.0.output.dense.weight",
                Some(("encoder.layer.0.output.dense.weight", false)),
            ),
            (
                Format::TensorFlow,
                "bert/encoder/layer_11/output/dense/kernel",
                Some(("encoder.layer.11.output.dense.weight", true)),
            ),
            (
                Format::TensorFlow,
                "bert/embeddings/position_embeddings",
                Some(("embeddings.position_embeddings.weight", false)),
            ),
            (Format::TensorFlow, "bert/embeddings/LayerNorm/beta", Some(("embeddings.LayerNorm.bias", false))),
            (Format::TensorFlow, "bert/embeddings/LayerNorm/beta/adam_m", None),
            (Format::TensorFlow, "beta1_power", None),
            (Format::TensorFlow, "global_step", None),
            (
                Format::Flax,
                "bert.encoder.layer.0.attention.self.key.kernel",
                Some(("encoder.layer.0.attention.self.key.weight", true)),
            ),
            (Format::Flax, "embeddings.LayerNorm.scale", Some(("embeddings.LayerNorm.weight", false))),
            (Format::Flax, "embeddings.word_embeddings.embedding", Some(("embeddings.word_embeddings.weight", false))),
        ];
        for (format, original, expected) in cases {
            let found = rename(format, "bert.", original);
            assert_eq!(found.as_ref().map(|(name, kernel)| (name.as_str(), *kernel)), expected, "{original}");
        }
    }
}
