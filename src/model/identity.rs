//! The identity of a model or encoder: a hash over everything that determines its results.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::{EncoderConfig, Pretrained, RelationModel};
use crate::corpus::Task;
use crate::digest::hex;

impl RelationModel {
    /// SHA-256, in hexadecimal, of task, marking, settings, architecture, vocabulary and
    /// parameters. It is the same before and after saving, and in any directory.
    pub fn content_hash(&self) -> String {
        let mut hash = Sha256::new();
        let mut feed = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        let card = &self.card;
        // Saving adds the labels to the other keys of a configuration; those do not affect results.
        let sizes = EncoderConfig { other: serde_json::Map::new(), ..self.network.encoder.clone() };
        // The names of a table's columns do not affect results either.
        let task = Task { columns: BTreeMap::new(), ..card.task.clone() };
        let parts = [
            serde_json::to_vec(&task),
            serde_json::to_vec(&card.marking),
            serde_json::to_vec(&card.training),
            serde_json::to_vec(&sizes),
        ];
        // Plain structures always serialise; without one the hash would still be stable.
        parts.iter().for_each(|part| feed(part.as_deref().unwrap_or_default()));
        // What the encoder reads of the other keys: rotary positions and windows of the attention.
        let encoder = &self.network.encoder;
        let layer = |layer| encoder.theta(layer).map(|theta| (theta, encoder.window(layer)));
        if let Some(layers) = (0..encoder.num_hidden_layers).map(layer).collect::<Option<Vec<_>>>() {
            feed(format!("{layers:?}").as_bytes());
        }
        for id in 0..self.tokenizer.vocab_size() as u32 {
            feed(self.tokenizer.token(id).unwrap_or_default().as_bytes());
        }
        if let Some(frozen) = self.network.source.candle() {
            feed(frozen.content_hash().as_bytes());
        }
        let mut bytes = Vec::new();
        for (spec, values) in self.weights.specs.iter().zip(&self.weights.values) {
            feed(spec.name.as_bytes());
            bytes.clear();
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            feed(&bytes);
        }
        hex(hash)
    }
}

impl Pretrained {
    /// SHA-256, in hexadecimal, of the sizes, the casing and every weight: the identity of an
    /// encoder, in any format.
    pub fn content_hash(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(format!("{:?} {}", self.config, self.tokenizer.casing().name()));
        if let Some(frozen) = self.source.candle() {
            hash.update(frozen.content_hash());
        }
        for value in self.weights.values.iter().flatten() {
            hash.update(value.to_le_bytes());
        }
        hex(hash)
    }
}
