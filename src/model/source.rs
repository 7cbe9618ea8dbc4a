//! Where the hidden states come from that a head reads: the engine's own encoder, one of
//! candle-transformers, or, while a head is trained on a frozen encoder, a cache of either.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::candle_encoder::CandleEncoder;
use super::encoder::{self, EncoderOutput, OutputSpec};
use super::params::Weights;
use crate::Result;
use crate::encode::Batch;
use crate::model::EncoderConfig;
use crate::ops::Ops;

/// The source of a network's hidden states.
#[derive(Debug, Clone, Default)]
pub enum Source {
    /// The engine's own encoder, whose parameters come first among the network's.
    #[default]
    Engine,
    /// An encoder that is never trained, with parameters of its own.
    Candle(Arc<CandleEncoder>),
    /// Another source, whose results are kept.
    Cached(Box<Source>, Arc<Cache>),
}

/// As for a network, the parameters do not count.
impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        std::mem::discriminant(self.origin()) == std::mem::discriminant(other.origin())
    }
}

impl Source {
    /// The source of an encoder with these parameters, of which those that are the network's are left.
    ///
    /// # Errors
    /// As [`CandleEncoder::new`].
    pub fn take(config: &EncoderConfig, weights: &mut Weights, count: usize) -> Result<Self> {
        if config.model_type.is_trainable() {
            return Ok(Self::Engine);
        }
        let left = Weights { specs: weights.specs.split_off(count), values: weights.values.split_off(count) };
        let own = std::mem::replace(weights, left);
        Ok(Self::Candle(Arc::new(CandleEncoder::new(config, own)?)))
    }

    /// All parameters as they are stored: those of an encoder that is never trained, then `weights`.
    ///
    /// # Errors
    /// As [`CandleEncoder::weights`].
    pub fn stored(&self, weights: &Weights) -> Result<Weights> {
        match self.origin() {
            Self::Candle(encoder) => {
                let mut all = encoder.weights()?;
                all.extend(weights.clone());
                Ok(all)
            }
            _ => Ok(weights.clone()),
        }
    }

    /// The encoder that is never trained, if it is one.
    pub fn candle(&self) -> Option<&CandleEncoder> {
        match self.origin() {
            Self::Candle(encoder) => Some(encoder),
            _ => None,
        }
    }

    /// With a cache, unless it has one.
    #[must_use]
    pub fn cached(self, cache: Cache) -> Self {
        match self {
            Self::Cached(..) => self,
            other => Self::Cached(Box::new(other), Arc::new(cache)),
        }
    }

    /// Without a cache, to be kept in a model.
    pub(crate) fn uncached(self) -> Self {
        match self {
            Self::Cached(origin, _) => *origin,
            other => other,
        }
    }

    fn origin(&self) -> &Self {
        match self {
            Self::Cached(origin, _) => origin,
            other => other,
        }
    }

    /// The hidden states of a batch, without dropout.
    ///
    /// # Errors
    /// As [`encoder::forward`].
    pub fn forward<O: Ops>(
        &self,
        ops: &O,
        config: &EncoderConfig,
        params: &[O::Buffer],
        batch: &Batch,
        spec: OutputSpec,
    ) -> Result<EncoderOutput<O::Buffer>> {
        match self {
            Self::Engine => Ok(encoder::forward(ops, config, params, batch, None, spec)?.0),
            Self::Candle(encoder) => encoder.forward(ops, batch, spec),
            Self::Cached(origin, cache) => match cache.get(ops, config.hidden_size, batch, spec)? {
                Some(output) => Ok(output),
                None => origin.forward(ops, config, params, batch, spec),
            },
        }
    }

    /// Compute the hidden states of a batch and keep them, if there is a cache with room for them.
    ///
    /// # Errors
    /// As [`Source::forward`].
    pub(crate) fn fill<O: Ops>(
        &self,
        ops: &O,
        config: &EncoderConfig,
        params: &[O::Buffer],
        batch: &Batch,
        spec: OutputSpec,
    ) -> Result<()> {
        match self {
            Self::Cached(origin, cache) if cache.lacks(batch, spec) => {
                cache.put(ops, batch, spec, &origin.forward(ops, config, params, batch, spec)?)
            }
            _ => Ok(()),
        }
    }
}

/// Hidden states of sentences, for one head, on the host. They are a function of the pieces of a
/// sentence and of the tokens that the head reads; a sentence with levitated markers is not kept,
/// because its markers differ between batches.
pub struct Cache {
    kept: Mutex<Kept>,
    /// Numbers that it may keep: what does not fit is computed when it is needed.
    capacity: usize,
}

/// 4 GiB.
const CAPACITY: usize = 1 << 30;

impl Default for Cache {
    fn default() -> Self {
        Self::with_capacity(CAPACITY)
    }
}

/// Its content does not affect results.
impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cache")
    }
}

#[derive(Default)]
struct Kept {
    sentences: HashMap<Key, Arc<States>>,
    numbers: usize,
    /// Whether a sentence had no room. Those that follow are longer.
    full: bool,
}

/// The pieces of a sentence, and which of its tokens are kept; `None` for all.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    ids: Vec<u32>,
    rows: Option<Vec<usize>>,
}

struct States {
    last: Vec<f32>, // (rows, H)
    cls: Vec<f32>,  // (layers, H), or empty
}

/// The sentences of a batch.
fn keys(batch: &Batch, spec: OutputSpec) -> Vec<Key> {
    let rows = spec.rows(batch);
    let key = |bounds: &[usize]| {
        let ids = batch.ids[bounds[0]..bounds[1]].to_vec();
        let own = |rows: &Vec<usize>| {
            let [from, to] = [bounds[0], bounds[1]].map(|bound| rows.partition_point(|row| *row < bound));
            rows[from..to].iter().map(|row| row - bounds[0]).collect()
        };
        Key { ids, rows: rows.as_ref().map(own) }
    };
    batch.cu_seqlens.windows(2).map(key).collect()
}

impl Cache {
    /// A cache of so many numbers.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { kept: Mutex::default(), capacity }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it may keep the batch, and a sentence is not there.
    fn lacks(&self, batch: &Batch, spec: OutputSpec) -> bool {
        let kept = self.kept();
        !kept.full && batch.markers.is_none() && keys(batch, spec).iter().any(|key| !kept.sentences.contains_key(key))
    }

    fn put<O: Ops>(&self, ops: &O, batch: &Batch, spec: OutputSpec, output: &EncoderOutput<O::Buffer>) -> Result<()> {
        let last = ops.download(&output.last)?; // (rows, H)
        let cls = output.cls.iter().map(|layer| ops.download(layer)).collect::<Result<Vec<_>>>()?; // each (n, H)
        let keys = keys(batch, spec);
        let rows_of = |key: &Key| key.rows.as_ref().map_or(key.ids.len(), Vec::len);
        let hidden = last.len() / keys.iter().map(rows_of).sum::<usize>().max(1);
        let (mut kept, mut start) = (self.kept(), 0);
        for (sentence, key) in keys.into_iter().enumerate() {
            let end = start + rows_of(&key) * hidden;
            let of_layer = |layer: &Vec<f32>| layer[sentence * hidden..][..hidden].to_vec();
            let states = States { last: last[start..end].to_vec(), cls: cls.iter().flat_map(of_layer).collect() };
            let numbers = states.last.len() + states.cls.len();
            kept.full |= kept.numbers + numbers > self.capacity;
            if !kept.full && !kept.sentences.contains_key(&key) {
                kept.numbers += numbers;
                kept.sentences.insert(key, Arc::new(states));
            }
            start = end;
        }
        Ok(())
    }

    /// The output for a batch all of whose sentences are there.
    fn get<O: Ops>(
        &self,
        ops: &O,
        hidden: usize,
        batch: &Batch,
        spec: OutputSpec,
    ) -> Result<Option<EncoderOutput<O::Buffer>>> {
        if batch.markers.is_some() {
            return Ok(None);
        }
        let found: Option<Vec<Arc<States>>> = {
            let kept = self.kept();
            keys(batch, spec).iter().map(|key| kept.sentences.get(key).cloned()).collect()
        };
        let Some(found) = found else { return Ok(None) };
        let last: Vec<f32> = found.iter().flat_map(|states| &states.last).copied().collect();
        let layers = found.first().map_or(0, |states| states.cls.len() / hidden);
        let of_layer = |layer: usize| {
            let cls: Vec<f32> =
                found.iter().flat_map(|states| &states.cls[layer * hidden..][..hidden]).copied().collect();
            ops.upload(&cls, &[found.len(), hidden])
        };
        let cls = (0..layers).map(of_layer).collect::<Result<_>>()?;
        Ok(Some(EncoderOutput { last: ops.upload(&last, &[last.len() / hidden, hidden])?, cls }))
    }
}
