//! Whether a prediction depends on the words with the most attention.
//!
//! The words that a ranking puts first are replaced by `[MASK]` and the instance is predicted
//! again. If attention explains decisions, masking its top words must lower the probability of the
//! predicted label by more than masking as much at random (comprehensiveness: DeYoung et al.,
//! ERASER, ACL 2020; compared with the gradient: Jain & Wallace, NAACL 2019).
//!
//! The weight of a word is the sum of its pieces' weights, so rankings put long words first, and
//! the same number of random words has fewer pieces. Every ranking is therefore also compared with
//! random words that have the same number of *pieces*.

use std::ops::Range;

use strum::{IntoStaticStr, VariantArray};

use crate::corpus::is_marker;
use crate::encode::{Features, Instance};
use crate::model::{Network, RelationModel, Weights};
use crate::ops::Ops;
use crate::ops::compute::{Compute, KeptJob};
use crate::predict::{OnBatch, Prediction, predict};
use crate::rng::{Purpose, Stream};
use crate::{Error, Result};

use super::explain::{Explained, explain};
use super::words::word_weights;

/// Instances that are explained and masked together; it bounds the memory of their masked copies.
const CHUNK: usize = 128;

/// Which words are masked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum Ranking {
    /// Largest weight in the head's attention.
    Attention,
    /// Largest attention of `[CLS]` in the encoder's last layer.
    Encoder,
    /// Largest (signed) sum of gradient x input.
    Gradient,
    /// A random order.
    Random,
}

named!(Ranking, "ranking");

/// One instance with some of its words masked. For [`Ranking::Random`], `pieces`, `after` and
/// `changed` are means over the random choices.
#[derive(Debug, Clone, PartialEq)]
pub struct Masked {
    /// Index of the instance among those given.
    pub instance: usize,
    /// Index of the label that the unmasked instance is predicted to have.
    pub label: usize,
    /// Which words were masked first.
    pub ranking: Ranking,
    /// How many words were to be masked.
    pub words: usize,
    /// How many words were masked: fewer where the instance has no more.
    pub masked: usize,
    /// How many word pieces were masked.
    pub pieces: f64,
    /// Probability of the label before masking.
    pub before: f64,
    /// Probability of the label after masking.
    pub after: f64,
    /// Whether another label became the most probable: 0 or 1, or a proportion.
    pub changed: f64,
    /// The outcome of masking random words with the same number of pieces; `None` for
    /// [`Ranking::Random`] itself.
    pub matched: Option<Matched>,
}

/// The outcome of masking random words, mean over the random choices.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Matched {
    /// Probability of the label after masking.
    pub after: f64,
    /// Proportion of choices after which another label was the most probable.
    pub changed: f64,
}

/// What [`mask_words`] masks.
#[derive(Debug, Clone, Copy)]
pub struct Masking<'a> {
    /// How many words to mask: one result for each number.
    pub words: &'a [usize],
    /// How many random choices of words are averaged.
    pub n_random: usize,
    /// Seed of the random words, and of the choice of instances.
    pub seed: u64,
    /// Leave out the instances that are predicted to have no relation.
    pub related: bool,
    /// At most this many instances, chosen at random; `None` for all.
    pub limit: Option<usize>,
}

/// Mask words of instances and predict again. Instances that do not fit into the model's length
/// have no results.
///
/// # Errors
/// [`Error::Config`] for numbers out of range or a vocabulary without `[MASK]`, and whatever
/// `on_batch` returns.
pub fn mask_words(
    model: &RelationModel,
    instances: &[Instance],
    masking: Masking<'_>,
    compute: Compute,
    on_batch: OnBatch<'_>,
) -> Result<Vec<Masked>> {
    let RelationModel { card, network, weights, tokenizer, kept, .. } = model;
    let no_mask = "its vocabulary has no [MASK], which replaces the masked words";
    let mask = tokenizer.mask_id().ok_or_else(|| Error::config("model", no_mask))?;
    let encoded = compute.within(|| model.encode(instances))?;
    let pairs = encoded.kept.iter().zip(&encoded.features).map(|(index, features)| (&instances[*index], features));
    let negative = card.task.negative;
    let job = MaskWords { network, weights, instances: pairs.collect(), mask, masking, negative, on_batch };
    let mut results = compute.execute_kept(kept, weights.clone(), job)?;
    results.iter_mut().for_each(|result| result.instance = encoded.kept[result.instance]);
    Ok(results)
}

/// Encoded instances whose words are to be masked. Entities, markers and punctuation never are:
/// without its entities an instance is a different question.
pub struct MaskWords<'a> {
    /// Architecture.
    pub network: &'a Network,
    /// Parameters of encoder and head, in the order of [`Network::specs`].
    pub weights: &'a Weights,
    /// The instances and their features.
    pub instances: Vec<(&'a Instance, &'a Features)>,
    /// Id of `[MASK]`.
    pub mask: u32,
    /// What to mask.
    pub masking: Masking<'a>,
    /// The label of no relation, if there is one.
    pub negative: Option<usize>,
    /// Progress.
    pub on_batch: OnBatch<'a>,
}

impl KeptJob for MaskWords<'_> {
    type Output = Vec<Masked>;

    fn load<O: Ops>(&self, ops: &O) -> Result<Vec<O::Buffer>> {
        self.weights.upload(ops)
    }

    fn bytes(&self) -> usize {
        self.weights.bytes()
    }

    /// Results sorted by instance, then ranking, then number of words.
    fn run_with<O: Ops>(self, ops: &O, params: &[O::Buffer]) -> Result<Vec<Masked>> {
        let Masking { words, n_random, seed, related, limit } = self.masking;
        if words.is_empty() || words.contains(&0) {
            return Err(Error::config("words", "must be one or more numbers of words, each at least 1"));
        }
        if !(1..=1000).contains(&n_random) {
            return Err(Error::config("n_random", format!("must be from 1 to 1000, not {n_random}")));
        }
        let mut order: Vec<usize> = (0..self.instances.len()).collect();
        if limit.is_some() {
            Stream::new(seed, Purpose::Sample, 0).shuffle(&mut order);
        }
        let skip = self.negative.filter(|_| related);
        let mut left = limit.unwrap_or(order.len());
        let mut results = Vec::new();
        let mut share = 0.0;
        let wanted = left;
        for (number, chunk) in order.chunks(CHUNK).enumerate() {
            if left == 0 {
                break;
            }
            let features: Vec<Features> = chunk.iter().map(|index| self.instances[*index].1.clone()).collect();
            let explained = explain(ops, self.network, params, &features, &mut |_| (self.on_batch)(share))?;
            let chosen =
                chunk.iter().zip(explained).filter(|(_, explained)| Some(explained.prediction.label()) != skip);
            let (mut trials, mut masked) = (Vec::new(), Vec::new());
            for (index, explained) in chosen.take(left) {
                left -= 1;
                self.mask(*index, &explained, &mut trials, &mut masked)?;
            }
            let predictions = predict(ops, self.network, params, &masked, &mut |_| (self.on_batch)(share))?;
            results.extend(trials.into_iter().map(|trial| trial.result(&predictions)));
            share = ((number + 1) * CHUNK) as f64 / order.len() as f64;
            share = share.max((wanted - left) as f64 / wanted as f64).min(1.0);
            (self.on_batch)(share)?;
        }
        results.sort_by_key(|result: &Masked| (result.instance, result.ranking as usize, result.words));
        Ok(results)
    }
}

/// A result whose masked copies have not been predicted yet.
struct Trial {
    result: Masked,
    copies: Range<usize>,
    /// The copies with random words of the same number of pieces; empty for [`Ranking::Random`].
    matched: Range<usize>,
}

impl Trial {
    fn result(self, predictions: &[Prediction]) -> Masked {
        let label = self.result.label;
        let outcome = |copies: &[Prediction]| {
            let mean = |of: &dyn Fn(&Prediction) -> f64| copies.iter().map(of).sum::<f64>() / copies.len() as f64;
            Matched {
                after: mean(&|copy| f64::from(copy.probabilities[label])),
                changed: mean(&|copy| f64::from(u8::from(copy.label() != label))),
            }
        };
        let Matched { after, changed } = outcome(&predictions[self.copies]);
        let matched = (!self.matched.is_empty()).then(|| outcome(&predictions[self.matched]));
        Masked { after, changed, matched, ..self.result }
    }
}

impl MaskWords<'_> {
    /// Add the trials of one instance and their masked copies.
    fn mask(
        &self,
        index: usize,
        explained: &Explained,
        trials: &mut Vec<Trial>,
        copies: &mut Vec<Features>,
    ) -> Result<()> {
        let (instance, features) = self.instances[index];
        let label = explained.prediction.label();
        let before = f64::from(explained.prediction.probabilities[label]);
        let maskable = maskable(features, instance, explained)?;
        let random = |stream: &mut Stream| -> Vec<Vec<u32>> {
            let one = |_| {
                let mut order = maskable.clone();
                stream.shuffle(&mut order);
                order
            };
            (0..self.masking.n_random).map(one).collect()
        };
        for (number, ranking) in Ranking::ALL.into_iter().enumerate() {
            let orders: Vec<Vec<u32>> = match ranking {
                Ranking::Attention => match &explained.prediction.pieces {
                    Some(weights) => vec![ranked(features, &maskable, weights)],
                    None => continue,
                },
                Ranking::Encoder => vec![ranked(features, &maskable, &explained.encoder)],
                Ranking::Gradient => vec![ranked(features, &maskable, &explained.gradient)],
                Ranking::Random => random(&mut Stream::new(self.masking.seed, Purpose::Sample, index as u32 + 1)),
            };
            let mut stream =
                Stream::new(self.masking.seed, Purpose::Matched, (index * Ranking::ALL.len() + number) as u32);
            let matching = if ranking == Ranking::Random { Vec::new() } else { random(&mut stream) };
            for words in self.masking.words {
                let masked = (*words).min(maskable.len());
                let (start, mut pieces) = (copies.len(), 0);
                for order in &orders {
                    let (copy, masked_pieces) = mask_pieces(features, &order[..masked], usize::MAX, self.mask);
                    copies.push(copy);
                    pieces += masked_pieces;
                }
                let end = copies.len();
                copies.extend(matching.iter().map(|order| mask_pieces(features, order, pieces, self.mask).0));
                let result = Masked {
                    instance: index,
                    label,
                    ranking,
                    words: *words,
                    masked,
                    pieces: pieces as f64 / orders.len() as f64,
                    before,
                    after: 0.0,
                    changed: 0.0,
                    matched: None,
                };
                trials.push(Trial { result, copies: start..end, matched: end..copies.len() });
            }
        }
        Ok(())
    }
}

/// The words of an instance that may be masked: neither part of an entity, nor a marker, nor
/// punctuation.
fn maskable(features: &Features, instance: &Instance, explained: &Explained) -> Result<Vec<u32>> {
    let words = word_weights(features, instance, &explained.encoder_shares())?;
    let maskable = words
        .into_iter()
        .filter(|word| !word.is_entity && !is_marker(&word.text) && word.text.chars().any(char::is_alphanumeric));
    Ok(maskable.map(|word| word.word).collect())
}

/// `words` by decreasing sum of their pieces' values; of equal sums, the earlier word first.
fn ranked(features: &Features, words: &[u32], values: &[f32]) -> Vec<u32> {
    let sum = |word: u32| {
        let pieces = features.words.iter().zip(values).filter(|(of, _)| **of == Some(word));
        pieces.map(|(_, value)| f64::from(*value)).sum::<f64>()
    };
    let mut sums: Vec<(u32, f64)> = words.iter().map(|word| (*word, sum(*word))).collect();
    sums.sort_by(|a, b| b.1.total_cmp(&a.1));
    sums.into_iter().map(|(word, _)| word).collect()
}

/// A copy with `words` masked in order, up to `most` pieces, so that the last word may be masked in
/// part; and the number of masked pieces.
fn mask_pieces(features: &Features, words: &[u32], most: usize, mask: u32) -> (Features, usize) {
    let mut copy = features.clone();
    let mut masked = 0;
    for word in words {
        for (id, _) in copy.ids.iter_mut().zip(&features.words).filter(|(_, of)| **of == Some(*word)) {
            if masked == most {
                return (copy, masked);
            }
            *id = mask;
            masked += 1;
        }
    }
    (copy, masked)
}
