//! One confusion matrix, and every score derived from it.
//!
//! Papers of the field mean different things by "F1": micro over the positive classes (DDI,
//! ChemProt), the positive class alone (AIMed), macro (BLUE's DDI). All are here, none is called
//! just "F1", and [`Scores::protocol`] says which is meant. They equal scikit-learn's with
//! `zero_division=0` to 1e-12 (`tests/golden/metrics`).

use std::fmt::Write as _;

use crate::corpus::Averaging;
use crate::{Error, Result};

/// How often each gold label (row) was predicted as each label (column).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confusion {
    labels: Vec<String>,
    negative: Option<usize>,
    /// `(labels, labels)`, row by row.
    counts: Vec<u64>,
    /// Gold positives that no instance could be formed from, by label: misses of their class,
    /// predicted as nothing.
    lost: Vec<u64>,
}

/// Precision, recall and their harmonic mean; a quotient with denominator 0 is 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prf {
    /// The share of predictions that are right.
    pub precision: f64,
    /// The share of gold pairs that were found.
    pub recall: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
}

/// The scores of one label.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassScore {
    /// The label.
    pub label: String,
    /// Whether it is the label that means "no relation".
    pub negative: bool,
    /// Its precision, recall and F1.
    pub prf: Prf,
    /// How many gold pairs have it, lost ones included.
    pub support: u64,
    /// How many predictions have it.
    pub predicted: u64,
    /// How many of these are right.
    pub correct: u64,
}

/// All scores of a confusion matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// One for each label, in the task's order.
    pub classes: Vec<ClassScore>,
    /// Over all decisions for the positive labels; for all labels if none is negative.
    pub micro: Prf,
    /// Mean of the positive labels' scores; of all labels' if none is negative.
    pub macro_positive: Prf,
    /// Mean of all labels' scores.
    pub macro_all: Prf,
    /// Any positive label against the negative one; `None` if no label is negative.
    pub binary: Option<Prf>,
    /// Share of right decisions, over all labels.
    pub accuracy: f64,
    /// How many instances were judged.
    pub instances: u64,
    /// How many gold positives never became instances; they are misses in every score here.
    pub lost: u64,
}

impl Confusion {
    /// An empty matrix for a task's labels; `negative` is the index of the label that means "no
    /// relation".
    pub fn new(labels: &[String], negative: Option<usize>) -> Result<Self> {
        if labels.is_empty() {
            return Err(Error::config("labels", "there must be at least one"));
        }
        if negative.is_some_and(|negative| negative >= labels.len()) {
            return Err(Error::config("negative", format!("must be the index of one of the {} labels", labels.len())));
        }
        let n = labels.len();
        Ok(Self { labels: labels.to_vec(), negative, counts: vec![0; n * n], lost: vec![0; n] })
    }

    /// Count gold labels against predicted ones, both as indices into `labels`.
    pub fn count(labels: &[String], negative: Option<usize>, gold: &[usize], predicted: &[usize]) -> Result<Self> {
        let mut confusion = Self::new(labels, negative)?;
        if gold.len() != predicted.len() {
            let message = format!("{} predictions for {} gold labels", predicted.len(), gold.len());
            return Err(Error::config("predicted", message));
        }
        for (gold, predicted) in gold.iter().zip(predicted) {
            confusion.add(*gold, *predicted, 1)?;
        }
        Ok(confusion)
    }

    /// Add `times` instances of gold label `gold` that were predicted as `predicted`.
    pub fn add(&mut self, gold: usize, predicted: usize, times: u64) -> Result<()> {
        let n = self.labels.len();
        for (field, label) in [("gold", gold), ("predicted", predicted)] {
            if label >= n {
                return Err(Error::config(field, format!("label {label} is not one of 0 to {}", n - 1)));
            }
        }
        self.counts[gold * n + predicted] += times;
        Ok(())
    }

    /// Add gold positives that never became instances (cross-sentence, dropped at `max_length`):
    /// `lost[i]` of label `i`. They count as misses, which makes recall that of the whole corpus.
    pub fn with_lost(mut self, lost: &[u64]) -> Result<Self> {
        if lost.len() != self.labels.len() {
            let message = format!("{} counts for {} labels", lost.len(), self.labels.len());
            return Err(Error::config("lost", message));
        }
        if self.negative.is_some_and(|negative| lost[negative] > 0) {
            return Err(Error::config("lost", "only positives can be lost; a lost negative is not an error"));
        }
        for (total, more) in self.lost.iter_mut().zip(lost) {
            *total += more;
        }
        Ok(self)
    }

    /// The labels, in order.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Index of the label that means "no relation".
    pub fn negative(&self) -> Option<usize> {
        self.negative
    }

    /// How often gold label `gold` was predicted as `predicted`; 0 for indices that are not labels.
    pub fn get(&self, gold: usize, predicted: usize) -> u64 {
        let n = self.labels.len();
        if gold < n && predicted < n { self.counts[gold * n + predicted] } else { 0 }
    }

    /// The matrix, one row per gold label.
    pub fn rows(&self) -> impl Iterator<Item = &[u64]> {
        self.counts.chunks_exact(self.labels.len())
    }

    /// Every score.
    pub fn scores(&self) -> Scores {
        let n = self.labels.len();
        let tallies: Vec<Tally> = (0..n)
            .map(|label| Tally {
                correct: self.get(label, label),
                predicted: (0..n).map(|gold| self.get(gold, label)).sum(),
                gold: (0..n).map(|predicted| self.get(label, predicted)).sum::<u64>() + self.lost[label],
            })
            .collect();
        let positive: Vec<Tally> =
            (0..n).filter(|label| Some(*label) != self.negative).map(|label| tallies[label]).collect();
        let instances = self.counts.iter().sum();
        let lost = self.lost.iter().sum();
        let binary = self.negative.map(|negative| {
            let found: u64 = (0..n)
                .flat_map(|gold| (0..n).map(move |predicted| (gold, predicted)))
                .filter(|(gold, predicted)| *gold != negative && *predicted != negative)
                .map(|(gold, predicted)| self.get(gold, predicted))
                .sum();
            let sum = positive.iter().copied().fold(Tally::default(), Tally::plus);
            Tally { correct: found, ..sum }.prf()
        });
        Scores {
            classes: (0..n)
                .map(|label| ClassScore {
                    label: self.labels[label].clone(),
                    negative: Some(label) == self.negative,
                    prf: tallies[label].prf(),
                    support: tallies[label].gold,
                    predicted: tallies[label].predicted,
                    correct: tallies[label].correct,
                })
                .collect(),
            micro: positive.iter().copied().fold(Tally::default(), Tally::plus).prf(),
            macro_positive: mean(&positive),
            macro_all: mean(&tallies),
            binary,
            accuracy: quotient(tallies.iter().map(|tally| tally.correct).sum(), instances + lost),
            instances,
            lost,
        }
    }
}

impl Scores {
    /// The scores under one convention; `None` for `Binary` without a negative label.
    pub fn by(&self, averaging: Averaging) -> Option<Prf> {
        match averaging {
            Averaging::Micro => Some(self.micro),
            Averaging::Macro => Some(self.macro_positive),
            Averaging::MacroAll => Some(self.macro_all),
            Averaging::Binary => self.binary,
        }
    }

    /// A description of this averaging's F1, to print with it: `micro-F1 over the 4 positive
    /// classes, test, 5,716 pairs`. `split` names the data: `test`, `10 folds, pooled`.
    pub fn protocol(&self, averaging: Averaging, split: &str) -> String {
        let has_negative = self.classes.iter().any(|class| class.negative);
        let positive: Vec<&ClassScore> = self.classes.iter().filter(|class| !class.negative).collect();
        let what = match (averaging, &positive[..]) {
            // One positive class: micro, macro and binary are one thing.
            (Averaging::Micro | Averaging::Macro | Averaging::Binary, [only]) if has_negative => {
                format!("F1 of the positive class `{}`", only.label)
            }
            (Averaging::Micro, _) if has_negative => format!("micro-F1 over the {} positive classes", positive.len()),
            (Averaging::Micro, _) => format!("micro-F1 over all {} classes", positive.len()),
            (Averaging::Macro, _) if has_negative => format!("macro-F1 over the {} positive classes", positive.len()),
            (Averaging::Macro, _) => format!("macro-F1 over all {} classes", positive.len()),
            (Averaging::MacroAll, _) if has_negative => {
                format!("macro-F1 over all {} classes, the negative one included", self.classes.len())
            }
            (Averaging::MacroAll, _) => format!("macro-F1 over all {} classes", self.classes.len()),
            (Averaging::Binary, _) => "binary F1, any relation against none".to_owned(),
        };
        let mut protocol = format!("{what}, {split}, {} pairs", with_commas(self.instances));
        if self.lost > 0 {
            let _ = write!(protocol, " and {} gold positives lost before, counted as misses", with_commas(self.lost));
        }
        protocol
    }
}

/// Counts behind a precision and a recall.
#[derive(Clone, Copy, Default)]
struct Tally {
    correct: u64,
    predicted: u64,
    gold: u64,
}

impl Tally {
    fn plus(self, other: Self) -> Self {
        Self {
            correct: self.correct + other.correct,
            predicted: self.predicted + other.predicted,
            gold: self.gold + other.gold,
        }
    }

    fn prf(self) -> Prf {
        Prf {
            precision: quotient(self.correct, self.predicted),
            recall: quotient(self.correct, self.gold),
            f1: quotient(2 * self.correct, self.predicted + self.gold),
        }
    }
}

fn quotient(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The mean of each score over labels; macro-F1 is the mean of the F1s, as in scikit-learn.
fn mean(tallies: &[Tally]) -> Prf {
    let over = |score: fn(Prf) -> f64| {
        if tallies.is_empty() {
            return 0.0;
        }
        tallies.iter().map(|tally| score(tally.prf())).sum::<f64>() / tallies.len() as f64
    };
    Prf { precision: over(|prf| prf.precision), recall: over(|prf| prf.recall), f1: over(|prf| prf.f1) }
}

/// 5716 -> 5,716.
pub(crate) fn with_commas(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
