//! What a run trains on, in memory or on disk.

use std::borrow::Cow;
use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::spool::Spool;
use crate::Result;
use crate::encode::Features;
use crate::rng::{Purpose, Stream};

/// The instances of a run, in order.
#[derive(Debug, Clone, Copy)]
pub enum Instances<'a> {
    /// In memory.
    Memory(&'a [Features]),
    /// Some parts of texts on disk, by their numbers.
    Spool(&'a Spool, &'a [usize]),
}

impl<'a> From<&'a [Features]> for Instances<'a> {
    fn from(features: &'a [Features]) -> Self {
        Self::Memory(features)
    }
}

impl<'a> From<&'a Vec<Features>> for Instances<'a> {
    fn from(features: &'a Vec<Features>) -> Self {
        Self::Memory(features)
    }
}

impl<'a> Instances<'a> {
    /// How many there are.
    pub fn len(self) -> usize {
        match self {
            Self::Memory(features) => features.len(),
            Self::Spool(_, parts) => parts.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// One of them.
    ///
    /// # Errors
    /// [`crate::Error::Io`] of the file on disk.
    pub fn get(self, index: usize) -> Result<Cow<'a, Features>> {
        match self {
            Self::Memory(features) => Ok(Cow::Borrowed(&features[index])),
            Self::Spool(spool, parts) => spool.read(parts[index]).map(Cow::Owned),
        }
    }

    /// Those in memory; of the others none.
    pub fn in_memory(self) -> &'a [Features] {
        match self {
            Self::Memory(features) => features,
            Self::Spool(..) => &[],
        }
    }

    /// Their order in an epoch: a function of the seed and the epoch alone. Instances with levitated
    /// markers in the same text stay together, so that a batch encodes the text once.
    pub(super) fn shuffled(self, seed: u64, epoch: usize) -> Vec<usize> {
        let mut stream = Stream::new(seed, Purpose::Shuffle, epoch as u32);
        if self.in_memory().iter().all(|item| item.marker_types.is_none()) {
            let mut order: Vec<usize> = (0..self.len()).collect();
            stream.shuffle(&mut order);
            return order;
        }
        let mut texts: HashMap<&[u32], usize> = HashMap::new();
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for (index, item) in self.in_memory().iter().enumerate() {
            let new = groups.len();
            let group = match item.marker_types {
                Some(_) => *texts.entry(&item.ids).or_insert(new),
                None => new,
            };
            if group == new {
                groups.push(Vec::new());
            }
            groups[group].push(index);
        }
        stream.shuffle(&mut groups);
        groups.into_iter().flatten().collect()
    }

    /// Add everything that a run depends on.
    pub(super) fn fingerprint(self, hash: &mut Sha256) {
        match self {
            Self::Memory(features) => {
                for item in features {
                    hash.update(format!("{:?} {:?}", item.ids, item.label));
                    // Other markings have the entities in the ids.
                    if let Some(types) = item.marker_types {
                        hash.update(format!("{:?} {types:?}", item.entities));
                        if !item.further.is_empty() {
                            hash.update(format!("{:?}", item.further));
                        }
                    }
                }
            }
            Self::Spool(spool, parts) => {
                hash.update(spool.digest());
                parts.iter().for_each(|part| hash.update(part.to_le_bytes()));
            }
        }
    }
}
