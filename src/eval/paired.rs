//! Paired significance tests of two models on the same instances.
//!
//! The three tests have different null hypotheses: the bootstrap is about the score itself,
//! McNemar's test about single predictions, and the sign test about whole folds or seeds. None
//! accounts for the overlap of the folds' training data, so p-values over folds are too small
//! (Dietterich 1998).

use std::collections::BTreeMap;

use super::distributions::{binomial_test, student_critical_value};
use super::mean_sd::MeanSd;
use super::metrics::Confusion;
use super::quantile::quantile;
use crate::corpus::{Averaging, Task};
use crate::rng::{Purpose, Stream};
use crate::{Error, Result};

/// The predictions of one model: the index of a label, or `None` for an instance that was dropped.
pub type Decisions = Vec<Option<usize>>;

/// The predictions that are compared.
#[derive(Debug, Clone)]
pub struct Comparison<'a> {
    /// Labels, negative label and averaging.
    pub task: &'a Task,
    /// Gold labels of the instances.
    pub gold: &'a [usize],
    /// The first model's decisions, one list for each of its seeds; their confusion matrices are
    /// added.
    pub first: &'a [Decisions],
    /// The second model's.
    pub second: &'a [Decisions],
    /// The resampling unit of each instance: the index of its sentence or document, or its own.
    pub unit: &'a [usize],
}

/// The difference between two models' F1 with its bootstrap distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrapped {
    /// F1 of the first model.
    pub first: f64,
    /// F1 of the second model.
    pub second: f64,
    /// Two-sided p-value.
    pub p: f64,
    /// Percentile interval of the difference.
    pub interval: [f64; 2],
    /// Number of units in each sample.
    pub units: usize,
}

/// Wins of either side and their two-sided p-value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Counted {
    /// How often only the first model was right, or the first was better.
    pub first: u64,
    /// How often only the second was right, or the second was better.
    pub second: u64,
    /// How often they did not differ; not part of the test.
    pub ties: u64,
    /// Two-sided p-value; 1 when they never differ.
    pub p: f64,
}

impl Counted {
    fn of(first: u64, second: u64, ties: u64) -> Self {
        Self { first, second, ties, p: binomial_test(first, second) }
    }

    /// The smallest p-value that this number of differences allows: all of them on one side.
    pub fn least_p(&self) -> f64 {
        binomial_test(0, self.first + self.second)
    }
}

/// Paired bootstrap (Efron & Tibshirani 1993, chapter 16; for F1 in language processing:
/// Berg-Kirkpatrick et al., EMNLP 2012): units are drawn with replacement, and both models are
/// scored on the same sample. The p-value is the proportion of samples whose difference deviates
/// from the observed one by at least as much as that deviates from 0; the observation counts as a
/// sample, so that p is never 0.
///
/// # Errors
/// [`Error::Config`] for lists of different lengths, an unknown label, fewer than 2 units, or no
/// samples.
pub fn bootstrap(
    comparison: &Comparison<'_>,
    samples: usize,
    confidence_level: f64,
    seed: u64,
) -> Result<Bootstrapped> {
    if samples == 0 || samples > 10_000_000 {
        return Err(Error::config("samples", format!("must be from 1 to 10,000,000, not {samples}")));
    }
    if !(confidence_level > 0.0 && confidence_level < 1.0) {
        return Err(Error::config("confidence_level", format!("must be between 0 and 1, not {confidence_level}")));
    }
    let labels = comparison.task.labels.len();
    let sides = [Tally::of(comparison, comparison.first)?, Tally::of(comparison, comparison.second)?];
    let units = sides[0].units.len();
    if units < 2 {
        return Err(Error::config("unit", "there must be at least 2 of them to resample"));
    }
    let f1 = |times: &[u32]| -> Result<[f64; 2]> { Ok([sides[0].f1(times, labels)?, sides[1].f1(times, labels)?]) };
    let [first, second] = f1(&vec![1; units])?;
    let observed = first - second;
    let mut differences = Vec::with_capacity(samples);
    let mut times = vec![0_u32; units];
    for sample in 0..samples {
        let mut stream = Stream::new(seed, Purpose::Sample, sample as u32);
        times.fill(0);
        for _ in 0..units {
            times[stream.below(units)] += 1;
        }
        let [first, second] = f1(&times)?;
        differences.push(first - second);
    }
    // The tolerance keeps rounding errors from deciding whether a sample is as extreme as the observation.
    let n_extreme = differences.iter().filter(|d| (**d - observed).abs() >= observed.abs() - 1e-12).count();
    differences.sort_by(f64::total_cmp);
    let tail = (1.0 - confidence_level) / 2.0;
    let interval = [quantile(&differences, tail), quantile(&differences, 1.0 - tail)];
    Ok(Bootstrapped { first, second, p: (n_extreme + 1) as f64 / (samples + 1) as f64, interval, units })
}

/// McNemar's test in its exact form: an instance that only one of the models classifies correctly
/// is equally likely to be either model's. A dropped instance counts as predicted "no relation".
///
/// # Errors
/// [`Error::Config`] for lists of different lengths.
pub fn mcnemar(task: &Task, gold: &[usize], first: &Decisions, second: &Decisions) -> Result<Counted> {
    for decisions in [first, second] {
        same_length(decisions.len(), gold.len())?;
    }
    let (mut only, mut ties) = ([0, 0], 0);
    for ((first, second), gold) in first.iter().zip(second).zip(gold) {
        match (is_right(task, first, *gold), is_right(task, second, *gold)) {
            (true, false) => only[0] += 1,
            (false, true) => only[1] += 1,
            _ => ties += 1,
        }
    }
    Ok(Counted::of(only[0], only[1], ties))
}

/// McNemar's test for instances that are correlated within a unit (a document). The surplus of a
/// unit is the number of its instances that only the first model classifies correctly minus those
/// that only the second does. Under the null hypothesis a surplus has either sign with equal
/// probability, so p is the proportion of random sign changes of the units whose sum is at least as
/// extreme as the observed one, which counts as one of them (a permutation test; with one instance
/// per unit it is McNemar's test). `ties` are units without a surplus.
///
/// # Errors
/// [`Error::Config`] for lists of different lengths or no samples.
pub fn mcnemar_by_unit(comparison: &Comparison<'_>, samples: usize, seed: u64) -> Result<Counted> {
    let Comparison { task, gold, first, second, unit } = comparison;
    if samples == 0 || samples > 10_000_000 {
        return Err(Error::config("samples", format!("must be from 1 to 10,000,000, not {samples}")));
    }
    same_length(unit.len(), gold.len())?;
    let mut surplus: BTreeMap<usize, i64> = BTreeMap::new();
    for (first, second) in first.iter().zip(*second) {
        for decisions in [first, second] {
            same_length(decisions.len(), gold.len())?;
        }
        for (((first, second), gold), unit) in first.iter().zip(second).zip(*gold).zip(*unit) {
            let right = |decision| i64::from(is_right(task, decision, *gold));
            *surplus.entry(*unit).or_default() += right(first) - right(second);
        }
    }
    let count = |sign: i64| surplus.values().filter(|surplus| surplus.signum() == sign).count() as u64;
    let (first, second, ties) = (count(1), count(-1), count(0));
    let surplus: Vec<i64> = surplus.into_values().filter(|surplus| *surplus != 0).collect();
    let observed = surplus.iter().sum::<i64>().abs();
    let n_extreme = (0..samples)
        .filter(|sample| {
            let mut stream = Stream::new(seed, Purpose::Sample, *sample as u32);
            let mut bits = 0;
            let sum: i64 = surplus
                .iter()
                .enumerate()
                .map(|(number, surplus)| {
                    if number % 32 == 0 {
                        bits = stream.next_u32();
                    }
                    if bits >> (number % 32) & 1 == 1 { -surplus } else { *surplus }
                })
                .sum();
            sum.abs() >= observed
        })
        .count();
    Ok(Counted { first, second, ties, p: (n_extreme + 1) as f64 / (samples + 1) as f64 })
}

/// Sign test over pairs of scores, of the same fold or seed (Demšar 2006, section 3.1.3). Ties are
/// left out.
///
/// # Errors
/// [`Error::Config`] for lists of different lengths or a score that is not a number.
pub fn sign_test(first: &[f64], second: &[f64]) -> Result<Counted> {
    same_length(first.len(), second.len())?;
    if first.iter().chain(second).any(|score| score.is_nan()) {
        return Err(Error::config("scores", "one of them is not a number"));
    }
    let count = |better: fn(&f64, &f64) -> bool| first.iter().zip(second).filter(|(a, b)| better(a, b)).count() as u64;
    let (more, less) = (count(|a, b| a > b), count(|a, b| a < b));
    Ok(Counted::of(more, less, first.len() as u64 - more - less))
}

/// Confidence interval of a mean by Student's t; `None` for fewer than two values.
pub fn t_interval(values: &[f64], confidence_level: f64) -> Option<[f64; 2]> {
    let MeanSd { mean, sd } = MeanSd::of(values)?;
    let n = values.len();
    let half = student_critical_value(confidence_level, n as u64 - 1) * sd? / (n as f64).sqrt();
    Some([mean - half, mean + half])
}

/// One model's predictions, grouped by resampling unit.
struct Tally {
    empty: Confusion,
    averaging: Averaging,
    /// For each unit: (gold, predicted), `None` for an instance that was dropped.
    units: Vec<Vec<(usize, Option<usize>)>>,
}

impl Tally {
    fn of(comparison: &Comparison<'_>, seeds: &[Decisions]) -> Result<Self> {
        let Comparison { task, gold, unit, .. } = comparison;
        same_length(unit.len(), gold.len())?;
        if seeds.is_empty() {
            return Err(Error::config("predicted", "there are no predictions"));
        }
        let empty = Confusion::new(&task.labels, task.negative)?;
        // Checks every label once, so that counting below cannot fail.
        let mut check = empty.clone();
        let mut units = vec![Vec::new(); unit.iter().max().map_or(0, |last| last + 1).min(gold.len())];
        for decisions in seeds {
            same_length(decisions.len(), gold.len())?;
            for ((gold, decision), unit) in gold.iter().zip(decisions).zip(*unit) {
                check.add(*gold, decision.unwrap_or(0), 1)?;
                let unit = units.get_mut(*unit).ok_or_else(|| Error::config("unit", "must be numbered from 0"))?;
                unit.push((*gold, *decision));
            }
        }
        units.retain(|unit| !unit.is_empty());
        Ok(Self { empty, averaging: task.averaging, units })
    }

    /// F1 in the task's averaging when each unit occurs `times` times.
    fn f1(&self, times: &[u32], labels: usize) -> Result<f64> {
        let mut confusion = self.empty.clone();
        let mut lost = vec![0; labels];
        for (unit, times) in self.units.iter().zip(times).filter(|(_, times)| **times > 0) {
            for (gold, decision) in unit {
                match decision {
                    Some(predicted) => confusion.add(*gold, *predicted, u64::from(*times))?,
                    None if self.empty.negative() == Some(*gold) => {}
                    None => lost[*gold] += u64::from(*times),
                }
            }
        }
        let scores = confusion.with_lost(&lost)?.scores();
        let none = || Error::config("averaging", "binary F1 needs a label that means \"no relation\"");
        scores.by(self.averaging).map(|prf| prf.f1).ok_or_else(none)
    }
}

/// A dropped instance counts as predicted "no relation".
fn is_right(task: &Task, decision: &Option<usize>, gold: usize) -> bool {
    match decision {
        Some(label) => *label == gold,
        None => task.negative == Some(gold),
    }
}

fn same_length(found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::config("predicted", format!("{found} values for {expected} instances")))
}
