//! Whether a prediction depends on the words that got the most attention.
//!
//! The words that a ranking puts first are replaced by `[MASK]` and the instance is predicted again. If attention explains
//! decisions, masking what it points at must cost the predicted label more of its probability than masking as much drawn
//! at random (comprehensiveness: DeYoung et al., ERASER, ACL 2020; Jain & Wallace, NAACL 2019, against the gradient).
//!
//! A word's weight is the sum of its pieces', so rankings put long words first, and as many random words are fewer pieces.
//! Every ranking is therefore compared with random words of as many *pieces* too.

use std::ops::Range;

use crate::corpus::is_marker;
use crate::encode::{Features, Instance};
use crate::model::{Network, Weights};
use crate::ops::Ops;
use crate::ops::compute::Job;
use crate::predict::{OnBatch, Prediction, predict};
use crate::rng::{Purpose, Stream};
use crate::{Error, Result};

use super::explain::{Explained, explain};
use super::words::word_weights;

/// Instances that are explained and masked at a time: as many as keep the masked copies small.
const CHUNK: usize = 128;

/// Which words are masked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ranking {
    /// Those with the largest weight in the head's attention.
    Attention,
    /// Those that `[CLS]` attends to most in the encoder's last layer.
    Encoder,
    /// Those with the largest (signed) sum of gradient x input.
    Gradient,
    /// Drawn at random.
    Random,
}

impl Ranking {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Attention, Self::Encoder, Self::Gradient, Self::Random];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Attention => "attention",
            Self::Encoder => "encoder",
            Self::Gradient => "gradient",
            Self::Random => "random",
        }
    }
}

/// One instance with some of its words masked.
#[derive(Debug, Clone, PartialEq)]
pub struct Masked {
    /// Index of the instance among those given.
    pub instance: usize,
    /// Index of the label it was predicted to have.
    pub label: usize,
    /// Which words were masked first.
    pub ranking: Ranking,
    /// How many words were to be masked.
    pub words: usize,
    /// How many were: fewer where the instance has no more.
    pub masked: usize,
    /// How many of its pieces that were; for [`Ranking::Random`] the mean over the draws.
    pub pieces: f64,
    /// Probability of the label with all words.
    pub before: f64,
    /// With the words masked; for [`Ranking::Random`] the mean over the draws.
    pub after: f64,
    /// Whether another label became the most probable; for [`Ranking::Random`] the share of the draws.
    pub changed: f64,
    /// What masking random words of as many pieces did; `None` for [`Ranking::Random`] itself.
    pub matched: Option<Matched>,
}

/// What masking random words did, mean over the draws.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Matched {
    /// Probability of the label with the words masked.
    pub after: f64,
    /// Share of the draws in which another label became the most probable.
    pub changed: f64,
}

/// Instances whose words are to be masked. Entities, markers and punctuation never are: without its entities an instance
/// asks another question.
pub struct MaskWords<'a> {
    /// Architecture.
    pub network: &'a Network,
    /// Parameters of encoder and head, in the order of [`Network::specs`].
    pub weights: &'a Weights,
    /// The instances as they are, and their pieces.
    pub instances: Vec<(&'a Instance, &'a Features)>,
    /// Id of `[MASK]`.
    pub mask: u32,
    /// How many words to mask: one result for each.
    pub words: &'a [usize],
    /// How many draws of random words are averaged.
    pub draws: usize,
    /// Seed of the draws, and of the choice of instances.
    pub seed: u64,
    /// Skip instances that are predicted to have this label.
    pub skip: Option<usize>,
    /// Stop after so many instances, taken in an order drawn by `seed`.
    pub limit: Option<usize>,
    /// Progress.
    pub on_batch: OnBatch<'a>,
}

impl Job for MaskWords<'_> {
    type Output = Vec<Masked>;

    /// Results sorted by instance, then ranking, then number of words.
    fn run<O: Ops>(self, ops: &O) -> Result<Vec<Masked>> {
        if self.words.is_empty() || self.words.contains(&0) {
            return Err(Error::config("words", "must be numbers of words from 1, at least one"));
        }
        if !(1..=1000).contains(&self.draws) {
            return Err(Error::config("draws", format!("must be from 1 to 1000, not {}", self.draws)));
        }
        let params = self.network.upload(ops, self.weights)?;
        let mut order: Vec<usize> = (0..self.instances.len()).collect();
        if self.limit.is_some() {
            Stream::new(self.seed, Purpose::Sample, 0).shuffle(&mut order);
        }
        let mut left = self.limit.unwrap_or(order.len());
        let mut results = Vec::new();
        for (number, chunk) in order.chunks(CHUNK).enumerate() {
            if left == 0 {
                break;
            }
            let features: Vec<Features> = chunk.iter().map(|index| self.instances[*index].1.clone()).collect();
            let explained = explain(ops, self.network, &params, &features, self.on_batch)?;
            let asked =
                chunk.iter().zip(explained).filter(|(_, explained)| Some(explained.prediction.label()) != self.skip);
            let (mut trials, mut masked) = (Vec::new(), Vec::new());
            for (index, explained) in asked.take(left) {
                left -= 1;
                self.mask(*index, &explained, &mut trials, &mut masked)?;
            }
            let predictions = predict(ops, self.network, &params, &masked, self.on_batch)?;
            results.extend(trials.into_iter().map(|trial| trial.result(&predictions)));
            (self.on_batch)((number + 1) * CHUNK)?;
        }
        results.sort_by_key(|result: &Masked| (result.instance, result.ranking as usize, result.words));
        Ok(results)
    }
}

/// A result whose masked copies are still to be predicted.
struct Trial {
    result: Masked,
    copies: Range<usize>,
    /// The copies with random words of as many pieces; empty for [`Ranking::Random`].
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
    /// Add the masked copies of one instance.
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
        let may_go = maskable(features, instance, explained)?;
        let draw = |stream: &mut Stream| -> Vec<Vec<u32>> {
            let one = |_| {
                let mut order = may_go.clone();
                stream.shuffle(&mut order);
                order
            };
            (0..self.draws).map(one).collect()
        };
        for (number, ranking) in Ranking::ALL.into_iter().enumerate() {
            let orders: Vec<Vec<u32>> = match ranking {
                Ranking::Attention => match &explained.prediction.pieces {
                    Some(weights) => vec![ranked(features, &may_go, weights)],
                    None => continue,
                },
                Ranking::Encoder => vec![ranked(features, &may_go, &explained.encoder)],
                Ranking::Gradient => vec![ranked(features, &may_go, &explained.gradient)],
                Ranking::Random => draw(&mut Stream::new(self.seed, Purpose::Sample, index as u32 + 1)),
            };
            let mut stream = Stream::new(self.seed, Purpose::Matched, (index * Ranking::ALL.len() + number) as u32);
            let matching = if ranking == Ranking::Random { Vec::new() } else { draw(&mut stream) };
            for words in self.words {
                let masked = (*words).min(may_go.len());
                let (start, mut pieces) = (copies.len(), 0);
                for order in &orders {
                    let (copy, gone) = without(features, &order[..masked], usize::MAX, self.mask);
                    copies.push(copy);
                    pieces += gone;
                }
                let end = copies.len();
                copies.extend(matching.iter().map(|order| without(features, order, pieces, self.mask).0));
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

/// The words of an instance that may be masked: neither part of an entity, nor a marker, nor punctuation.
fn maskable(features: &Features, instance: &Instance, explained: &Explained) -> Result<Vec<u32>> {
    let words = word_weights(features, instance, &explained.encoder_shares())?;
    let may_go = words
        .into_iter()
        .filter(|word| !word.is_entity && !is_marker(&word.text) && word.text.chars().any(char::is_alphanumeric));
    Ok(may_go.map(|word| word.word).collect())
}

/// `words`, those with the largest sum of their pieces' values first; of equals the earlier.
fn ranked(features: &Features, words: &[u32], values: &[f32]) -> Vec<u32> {
    let sum = |word: u32| {
        let pieces = features.words.iter().zip(values).filter(|(of, _)| **of == Some(word));
        pieces.map(|(_, value)| f64::from(*value)).sum::<f64>()
    };
    let mut sums: Vec<(u32, f64)> = words.iter().map(|word| (*word, sum(*word))).collect();
    sums.sort_by(|a, b| b.1.total_cmp(&a.1));
    sums.into_iter().map(|(word, _)| word).collect()
}

/// A copy with `words` masked, one after the other, until `most` pieces are: the last word perhaps in part. And how many
/// pieces were masked.
fn without(features: &Features, words: &[u32], most: usize, mask: u32) -> (Features, usize) {
    let mut copy = features.clone();
    let mut gone = 0;
    for word in words {
        for (id, _) in copy.ids.iter_mut().zip(&features.words).filter(|(_, of)| **of == Some(*word)) {
            if gone == most {
                return (copy, gone);
            }
            *id = mask;
            gone += 1;
        }
    }
    (copy, gone)
}
