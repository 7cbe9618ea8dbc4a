//! Which model or encoder it is: a hash over everything that decides its results.

use sha2::{Digest, Sha256};

use super::{EncoderConfig, Pretrained, RelationModel};
use crate::digest::hex;

impl RelationModel {
    /// SHA-256, in hexadecimal, of task, marking, settings, architecture, vocabulary and parameters. It is the same
    /// before and after saving, wherever the model lies.
    pub fn content_hash(&self) -> String {
        let mut hash = Sha256::new();
        let mut feed = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        let card = &self.card;
        // Saving adds the labels to what a configuration says besides the sizes; none of that decides anything.
        let sizes = EncoderConfig { other: serde_json::Map::new(), ..self.network.encoder.clone() };
        let parts = [
            serde_json::to_vec(&card.task),
            serde_json::to_vec(&card.marking),
            serde_json::to_vec(&card.training),
            serde_json::to_vec(&sizes),
        ];
        // Plain structures always serialise; if one ever does not, its absence still gives a stable hash.
        parts.iter().for_each(|part| feed(part.as_deref().unwrap_or_default()));
        for id in 0..self.tokenizer.vocab_size() as u32 {
            feed(self.tokenizer.token(id).unwrap_or_default().as_bytes());
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
    /// SHA-256, in hexadecimal, of the sizes, the casing and every weight: which encoder it is, wherever it was read from.
    pub fn content_hash(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(format!("{:?} {}", self.config, self.tokenizer.casing().name()));
        for value in self.weights.values.iter().flatten() {
            hash.update(value.to_le_bytes());
        }
        hex(hash)
    }
}
