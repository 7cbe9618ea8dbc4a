//! A fingerprint of a model's training data: SHA-256 of the content, independent of file names and
//! formats.

use sha2::{Digest, Sha256};

use super::{Corpus, Split, Task};
use crate::digest::hex;

/// Hashes every field with its length, so that different contents cannot give the same bytes.
struct ContentHasher(Sha256);

impl ContentHasher {
    fn text(&mut self, text: &str) {
        self.number(text.len());
        self.0.update(text.as_bytes());
    }

    fn number(&mut self, number: usize) {
        self.0.update((number as u64).to_le_bytes());
    }

    fn split(&mut self, split: &Split, task: &Task) {
        self.number(split.sentences.len());
        for sentence in &split.sentences {
            self.text(&sentence.id);
            self.text(&sentence.document);
            self.text(&sentence.text);
            self.number(sentence.entities.len());
            for entity in &sentence.entities {
                self.text(&entity.id);
                self.text(&entity.entity_type);
                self.number(entity.spans.len());
                for span in &entity.spans {
                    self.number(span.start);
                    self.number(span.end);
                }
            }
            self.number(sentence.pairs.len());
            for pair in &sentence.pairs {
                self.text(&pair.id);
                self.number(pair.entity1);
                self.number(pair.entity2);
                self.text(task.labels.get(pair.label).map_or("", String::as_str));
                if let Some(concepts) = &pair.concepts {
                    concepts.names.iter().for_each(|name| self.text(name));
                    self.number(concepts.further.len());
                    for &(first, second) in &concepts.further {
                        self.number(first);
                        self.number(second);
                    }
                }
            }
        }
    }

    fn hex(self) -> String {
        hex(self.0)
    }
}

impl Split {
    /// SHA-256, in hexadecimal, of the sentences, mentions, pairs and label names; the split's own
    /// name is left out.
    pub fn content_hash(&self, task: &Task) -> String {
        let mut hasher = ContentHasher(Sha256::new());
        hasher.split(self, task);
        hasher.hex()
    }
}

impl Corpus {
    /// SHA-256, in hexadecimal, of the labels and of all splits with their names.
    pub fn content_hash(&self) -> String {
        let mut hasher = ContentHasher(Sha256::new());
        hasher.number(self.task.labels.len());
        self.task.labels.iter().for_each(|label| hasher.text(label));
        for split in &self.splits {
            hasher.text(&split.name);
            hasher.split(split, &self.task);
        }
        hasher.hex()
    }
}
