//! Intervals and tests of means over words, by resampling whole documents: the words of one
//! document are not independent.
//!
//! * Intervals are bootstrap-t intervals over documents (Davison & Hinkley 1997, sections 2.4 and
//!   3.8): quantiles of the deviation of a resampled mean, in units of its own standard error. With
//!   few documents, percentiles of the mean cover far less than their nominal level.
//! * A difference is tested by a permutation test over documents. A document with words on both
//!   sides has its sides swapped with probability 1/2; documents with words on one side exchange
//!   their labels. The statistic is the difference in units of its standard error, which keeps the
//!   level where the two sides differ in variance or size (Chung & Romano 2013).

use crate::eval::quantile;
use crate::rng::{Purpose, Stream};
use crate::{Error, Result};

/// Fewest documents, on each side, for an interval or a test: with fewer, neither keeps its nominal
/// level.
pub const LEAST_DOCUMENTS: u64 = 10;

/// Settings of the bootstrap and of the permutation test.
#[derive(Debug, Clone, Copy)]
pub struct Resampling {
    /// Number of bootstrap samples and of permutations; 0 for neither intervals nor tests.
    pub samples: usize,
    /// Confidence level of the intervals.
    pub confidence_level: f64,
    /// Seed of the samples.
    pub seed: u64,
}

/// The words of one document on either side: their number and the sum of their weights.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Document {
    pub sides: [(f64, f64); 2],
}

impl Document {
    fn is_on(&self, side: usize) -> bool {
        self.sides[side].0 > 0.0
    }
}

/// A difference of means and its standard error.
#[derive(Debug, Clone, Copy)]
struct Estimate {
    difference: f64,
    error: f64,
}

impl Estimate {
    /// The mean of side 0 minus that of side 1, or with `both` false the mean of side 0 alone. The
    /// standard error is that of a ratio of sums over documents (linearised), for documents sampled
    /// on each side; `None` if a side has fewer than 2 of them.
    fn of<'a>(documents: impl Iterator<Item = &'a Document> + Clone, both: bool) -> Option<Self> {
        let mut totals = [(0.0, 0.0, 0.0); 2]; // words, their sum, documents
        for document in documents.clone() {
            for (total, side) in totals.iter_mut().zip(&document.sides) {
                total.0 += side.0;
                total.1 += side.1;
                total.2 += f64::from(u8::from(side.0 > 0.0));
            }
        }
        let sides = if both { 2 } else { 1 };
        if totals[..sides].iter().any(|(_, _, documents)| *documents < 2.0) {
            return None;
        }
        // The influence of a document on each side's mean, with the small-sample correction n / (n - 1).
        let shape = totals.map(|(words, sum, documents)| (sum / words, (documents / (documents - 1.0)).sqrt() / words));
        let squares: f64 = documents
            .map(|document| {
                let influence = |side: usize| {
                    let ((words, sum), (mean, scale)) = (document.sides[side], shape[side]);
                    (sum - mean * words) * scale
                };
                let influence = if both { influence(0) - influence(1) } else { influence(0) };
                influence * influence
            })
            .sum();
        let difference = if both { shape[0].0 - shape[1].0 } else { shape[0].0 };
        Some(Self { difference, error: squares.sqrt() })
    }

    /// The difference from `center` in units of the standard error; rounding errors count as 0.
    fn studentized(&self, center: f64) -> f64 {
        let distance = self.difference - center;
        let noise = 1e-12 * (self.difference.abs() + center.abs());
        if distance.abs() <= noise { 0.0 } else { distance / self.error }
    }
}

/// The proportion of permutations whose statistic is at least as extreme as the observed one, which
/// counts as one.
pub(super) fn permutation_test(documents: &[Document], resampling: Resampling) -> f64 {
    let Some(observed) = Estimate::of(documents.iter(), true).map(|estimate| estimate.studentized(0.0)) else {
        return 1.0;
    };
    let (both, one): (Vec<Document>, Vec<Document>) =
        documents.iter().partition(|document| document.is_on(0) && document.is_on(1));
    let first = one.iter().filter(|document| document.is_on(0)).count();
    let mut permuted: Vec<Document> = one.iter().chain(&both).copied().collect();
    let mut n_extreme = 0;
    for sample in 0..resampling.samples {
        let mut stream = Stream::new(resampling.seed, Purpose::Sample, sample as u32);
        let (one, both) = permuted.split_at_mut(one.len());
        // Shuffling the documents exchanges their labels: the first `first` are on side 0.
        stream.shuffle(one);
        for (position, document) in one.iter_mut().enumerate() {
            let words = if document.is_on(0) { document.sides[0] } else { document.sides[1] };
            document.sides = if position < first { [words, (0.0, 0.0)] } else { [(0.0, 0.0), words] };
        }
        let mut bits = 0;
        for (number, document) in both.iter_mut().enumerate() {
            if number % 32 == 0 {
                bits = stream.next_u32();
            }
            if bits >> (number % 32) & 1 == 1 {
                document.sides.swap(0, 1);
            }
        }
        // The tolerance keeps rounding errors from deciding whether a sample is as extreme as the observation.
        let extreme = |t: f64| t.abs() >= observed.abs() * (1.0 - 1e-9) || t.is_nan();
        n_extreme +=
            usize::from(Estimate::of(permuted.iter(), true).is_none_or(|estimate| extreme(estimate.studentized(0.0))));
    }
    (n_extreme + 1) as f64 / (resampling.samples + 1) as f64
}

impl Resampling {
    pub(super) fn check(self) -> Result<()> {
        if self.samples > 1_000_000 {
            return Err(Error::config("samples", format!("must be at most 1,000,000, not {}", self.samples)));
        }
        if !(self.confidence_level > 0.0 && self.confidence_level < 1.0) {
            return Err(Error::config(
                "confidence_level",
                format!("must be between 0 and 1, not {}", self.confidence_level),
            ));
        }
        Ok(())
    }

    /// Bootstrap-t interval of the difference, or of the mean if no document is on side 1. The
    /// samples depend only on the number of documents: a stem's interval does not change with the
    /// other stems of the call.
    pub(super) fn interval(self, documents: &[Document]) -> Option<[f64; 2]> {
        let both = documents.iter().any(|document| document.is_on(1));
        let observed = Estimate::of(documents.iter(), both)?;
        let mut deviations = Vec::with_capacity(self.samples);
        let mut drawn: Vec<&Document> = Vec::with_capacity(documents.len());
        for sample in 0..self.samples {
            let mut stream = Stream::new(self.seed, Purpose::Sample, sample as u32);
            drawn.clear();
            drawn.extend((0..documents.len()).map(|_| &documents[stream.below(documents.len())]));
            let deviation = Estimate::of(drawn.iter().copied(), both)
                .map(|estimate| estimate.studentized(observed.difference))
                .filter(|deviation| deviation.is_finite());
            deviations.extend(deviation);
        }
        if deviations.len() * 2 < self.samples.max(1) {
            return None;
        }
        deviations.sort_by(f64::total_cmp);
        let tail = (1.0 - self.confidence_level) / 2.0;
        let end = |share: f64| observed.difference - quantile(&deviations, share) * observed.error;
        Some([end(1.0 - tail), end(tail)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two documents, with two words of sum 0.3 and one word of 0.6: the mean is 0.3.
    #[test]
    fn standard_errors_by_hand() {
        let document = |first, second| Document { sides: [first, second] };
        let documents = [document((2.0, 0.3), (0.0, 0.0)), document((1.0, 0.6), (0.0, 0.0))];
        let estimate = Estimate::of(documents.iter(), false).unwrap();
        // Influences (0.3 - 2 * 0.3) / 3 and (0.6 - 0.3) / 3; n / (n - 1) is 2.
        assert!((estimate.difference - 0.3).abs() < 1e-15 && (estimate.error - 0.2).abs() < 1e-15, "{estimate:?}");
        // Side 1 is always 0.1 lower: the difference has a standard error of 0.
        let documents = [document((1.0, 0.4), (1.0, 0.3)), document((1.0, 0.8), (1.0, 0.7))];
        let estimate = Estimate::of(documents.iter(), true).unwrap();
        assert!((estimate.difference - 0.1).abs() < 1e-15 && estimate.error < 1e-15, "{estimate:?}");
        assert!(Estimate::of(documents[..1].iter(), true).is_none());
    }
}
