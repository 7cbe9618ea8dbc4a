//! Which stems a model attended to, over many instances (the paper's Table V), and how that differs
//! between two groups of instances (its Fig. 4). Intervals and tests resample documents (see
//! [`super::resampling`]).

use rayon::prelude::*;

use super::resampling::{Document, LEAST_DOCUMENTS, Resampling, permutation_test};
use crate::{Error, Result};

/// Words with their attention weights: one entry in each list for every word that is counted.
#[derive(Debug, Clone, Copy)]
pub struct Occurrences<'a> {
    /// Index of the word's stem, from 0.
    pub stems: &'a [usize],
    /// Index of its document, from 0.
    pub documents: &'a [usize],
    /// Its weight.
    pub weights: &'a [f64],
}

/// The attention of a stem.
#[derive(Debug, Clone, PartialEq)]
pub struct StemWeight {
    /// Number of words with the stem.
    pub count: u64,
    /// Number of documents with the stem.
    pub documents: u64,
    /// Mean weight of these words.
    pub mean: f64,
    /// Its standard deviation; `None` for one word.
    pub sd: Option<f64>,
    /// Bootstrap-t interval of the mean; `None` below [`LEAST_DOCUMENTS`] documents.
    pub interval: Option<[f64; 2]>,
}

/// The attention of a stem in one group of instances compared with another.
#[derive(Debug, Clone, PartialEq)]
pub struct StemContrast {
    /// The two groups.
    pub groups: [StemWeight; 2],
    /// Mean of the first group minus mean of the second.
    pub difference: f64,
    /// Bootstrap-t interval of the difference; `None` below [`LEAST_DOCUMENTS`] documents in either
    /// group.
    pub interval: Option<[f64; 2]>,
    /// Hedges' g: the difference in pooled standard deviations, corrected for small counts (Hedges
    /// 1981).
    pub effect: Option<f64>,
    /// Two-sided p-value of the permutation test: the proportion of permutations whose statistic is
    /// at least as extreme as the observed one, which is counted as one of them. `None` below
    /// [`LEAST_DOCUMENTS`] documents in either group.
    pub p: Option<f64>,
    /// `p` adjusted for the number of stems tested: false discovery rate (Benjamini & Hochberg
    /// 1995).
    pub q: Option<f64>,
}

/// The attention of every stem.
///
/// # Errors
/// [`Error::Config`] for lists of different lengths, a weight that is not finite, or a
/// [`Resampling`] that is out of range.
pub fn stem_weights(occurrences: Occurrences<'_>, resampling: Resampling) -> Result<Vec<StemWeight>> {
    resampling.check()?;
    let sides = sides_of(occurrences, occurrences.stem_count())?;
    Ok(sides.par_iter().map(|side| side.weight(resampling)).collect())
}

/// The mean of values with its interval; values of one document are resampled together.
///
/// # Errors
/// As [`stem_weights`].
pub fn bootstrap_mean(values: &[f64], documents: &[usize], resampling: Resampling) -> Result<StemWeight> {
    let stems = vec![0; values.len()];
    let mut means = stem_weights(Occurrences { stems: &stems, documents, weights: values }, resampling)?;
    means.pop().ok_or_else(|| Error::config("values", "there are none to average"))
}

/// The attention of every stem in the first group of instances compared with the second. Both
/// groups use the same indices of stems and documents; a document may have instances of both
/// groups.
///
/// # Errors
/// As [`stem_weights`].
pub fn stem_contrasts(groups: [Occurrences<'_>; 2], resampling: Resampling) -> Result<Vec<StemContrast>> {
    resampling.check()?;
    let stems = groups.map(|group| group.stem_count()).into_iter().max().unwrap_or(0);
    let [first, second] = groups.map(|group| sides_of(group, stems));
    let (first, second) = (first?, second?);
    let mut contrasts: Vec<StemContrast> =
        first.par_iter().zip(&second).map(|(first, second)| contrast(first, second, resampling)).collect();
    let tested: Vec<usize> = (0..stems).filter(|index| contrasts[*index].p.is_some()).collect();
    let p: Vec<f64> = tested.iter().filter_map(|index| contrasts[*index].p).collect();
    for (index, q) in tested.into_iter().zip(false_discovery_rates(&p)) {
        contrasts[index].q = Some(q);
    }
    Ok(contrasts)
}

fn contrast(first: &Side, second: &Side, resampling: Resampling) -> StemContrast {
    let groups = [first.weight(resampling), second.weight(resampling)];
    let difference = groups[0].mean - groups[1].mean;
    let testable = groups.iter().all(|group| group.documents >= LEAST_DOCUMENTS) && resampling.samples > 0;
    let documents = merge(first, second);
    let interval = if testable { resampling.interval(&documents) } else { None };
    let p = testable.then(|| permutation_test(&documents, resampling));
    StemContrast { effect: hedges_g(&groups), groups, difference, interval, p, q: None }
}

impl Occurrences<'_> {
    fn stem_count(&self) -> usize {
        self.stems.iter().max().map_or(0, |last| last + 1)
    }
}

/// The words of a stem in one group of instances.
#[derive(Debug, Default)]
struct Side {
    /// Index of the document, number of words, sum of their weights; sorted.
    parts: Vec<(usize, f64, f64)>,
    /// Sum of squared deviations from the mean.
    deviations: f64,
}

fn sides_of(occurrences: Occurrences<'_>, stems: usize) -> Result<Vec<Side>> {
    let Occurrences { stems: numbers, documents, weights } = occurrences;
    if numbers.len() != weights.len() || documents.len() != weights.len() {
        let message = format!("{} stems, {} documents, {} weights", numbers.len(), documents.len(), weights.len());
        return Err(Error::config("weights", message));
    }
    if let Some(bad) = weights.iter().find(|weight| !weight.is_finite()) {
        return Err(Error::config("weights", format!("{bad} is not a weight")));
    }
    let mut lists: Vec<Vec<(usize, f64)>> = vec![Vec::new(); stems];
    for ((stem, document), weight) in numbers.iter().zip(documents).zip(weights) {
        lists[*stem].push((*document, *weight));
    }
    let side = |mut words: Vec<(usize, f64)>| {
        // The order of the rows must not change the sums.
        words.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let mean = words.iter().map(|(_, weight)| weight).sum::<f64>() / words.len().max(1) as f64;
        let deviations = words.iter().map(|(_, weight)| (weight - mean).powi(2)).sum();
        let part = |words: &[(usize, f64)]| {
            (words[0].0, words.len() as f64, words.iter().map(|(_, weight)| weight).sum::<f64>())
        };
        Side { parts: words.chunk_by(|a, b| a.0 == b.0).map(part).collect(), deviations }
    };
    Ok(lists.into_par_iter().map(side).collect())
}

/// The documents of both sides, in the order of their indices.
fn merge(first: &Side, second: &Side) -> Vec<Document> {
    let mut documents: std::collections::BTreeMap<usize, Document> = Default::default();
    for (number, side) in [first, second].into_iter().enumerate() {
        for &(document, words, sum) in &side.parts {
            documents.entry(document).or_default().sides[number] = (words, sum);
        }
    }
    documents.into_values().collect()
}

impl Side {
    fn weight(&self, resampling: Resampling) -> StemWeight {
        let words: f64 = self.parts.iter().map(|part| part.1).sum();
        let documents = self.parts.len() as u64;
        let enough = documents >= LEAST_DOCUMENTS && resampling.samples > 0;
        StemWeight {
            count: words as u64,
            documents,
            mean: self.parts.iter().map(|part| part.2).sum::<f64>() / words,
            sd: (words > 1.0).then(|| (self.deviations / (words - 1.0)).sqrt()),
            interval: if enough { resampling.interval(&merge(self, &Side::default())) } else { None },
        }
    }
}

fn hedges_g(groups: &[StemWeight; 2]) -> Option<f64> {
    let [a, b] = groups;
    let freedom = (a.count + b.count).checked_sub(2).filter(|freedom| *freedom > 0)? as f64;
    let squares = |group: &StemWeight| group.sd.map_or(0.0, |sd| sd.powi(2) * (group.count - 1) as f64);
    let pooled = ((squares(a) + squares(b)) / freedom).sqrt();
    let correction = 1.0 - 3.0 / (4.0 * freedom - 1.0);
    (a.count > 0 && b.count > 0 && pooled > 0.0).then(|| (a.mean - b.mean) / pooled * correction)
}

/// Benjamini and Hochberg's step-up adjustment, in the order of `p`.
fn false_discovery_rates(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*b].total_cmp(&p[*a]));
    let mut rates = vec![1.0; p.len()];
    let mut least = 1.0_f64;
    for (position, index) in order.into_iter().enumerate() {
        least = least.min(p[index] * p.len() as f64 / (p.len() - position) as f64);
        rates[index] = least;
    }
    rates
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};

    const RESAMPLING: Resampling = Resampling { samples: 500, confidence_level: 0.9, seed: 1 };

    /// Stem 0: 0.1, 0.2 (document 0), 0.6 (document 1). Stem 1: 0.4 (document 2).
    fn miniature() -> ([usize; 4], [usize; 4], [f64; 4]) {
        ([0, 1, 0, 0], [0, 2, 1, 0], [0.1, 0.4, 0.6, 0.2])
    }

    #[test]
    fn stem_weights_by_hand() {
        let (stems, documents, weights) = miniature();
        let table =
            stem_weights(Occurrences { stems: &stems, documents: &documents, weights: &weights }, RESAMPLING).unwrap();
        let [first, second] = &table[..] else { panic!("{table:?}") };
        assert_eq!((first.count, first.documents, second.count, second.documents), (3, 2, 1, 1));
        assert!((first.mean - 0.3).abs() < 1e-15);
        assert!((first.sd.unwrap() - 0.07_f64.sqrt()).abs() < 1e-15); // (0.04 + 0.01 + 0.09) / 2
        assert_eq!((first.interval, second.interval), (None, None)); // fewer than ten documents
        assert_eq!((second.mean, second.sd), (0.4, None));
    }

    #[test]
    fn with_many_documents_the_interval_is_that_of_the_normal_distribution() {
        let mut stream = Stream::new(3, Purpose::Init, 0);
        let weights: Vec<f64> = (0..2000).map(|_| stream.normal()).collect();
        let documents: Vec<usize> = (0..2000).collect();
        let resampling = Resampling { samples: 4000, confidence_level: 0.95, seed: 1 };
        let stem = bootstrap_mean(&weights, &documents, resampling).unwrap();
        let half = 1.96 * stem.sd.unwrap() / 2000_f64.sqrt();
        let [low, high] = stem.interval.unwrap();
        // The quantiles of 4000 samples are within some 4 % of a standard error.
        assert!((stem.mean - half - low).abs() < 0.1 * half && (stem.mean + half - high).abs() < 0.1 * half);
        assert!(bootstrap_mean(&[], &[], resampling).unwrap_err().to_string().contains("none to average"));
    }

    #[test]
    fn words_of_one_document_are_resampled_together() {
        // Ten equal words in each of 20 documents are no more evidence than one word in each.
        let documents: Vec<usize> = (0..200).map(|word| word / 10).collect();
        let weights: Vec<f64> = documents.iter().map(|document| (document % 5) as f64 / 10.0).collect();
        let single: Vec<usize> = (0..20).collect();
        let one: Vec<f64> = single.iter().map(|document| (document % 5) as f64 / 10.0).collect();
        let intervals = [(&weights, &documents), (&one, &single)]
            .map(|(weights, documents)| bootstrap_mean(weights, documents, RESAMPLING).unwrap().interval.unwrap());
        for (a, b) in intervals[0].iter().zip(intervals[1]) {
            assert!((a - b).abs() < 1e-12, "{intervals:?}");
        }
    }

    /// A stem's words on one side.
    type Words = (Vec<usize>, Vec<usize>, Vec<f64>);

    fn occurrences((stems, documents, weights): &Words) -> Occurrences<'_> {
        Occurrences { stems, documents, weights }
    }

    /// How documents and sides are related in a simulation.
    #[derive(Debug, Clone, Copy)]
    enum Design {
        /// Ten documents on each side, two words in each.
        Apart,
        /// Ten documents with words of both sides, more of the second.
        Together,
        /// Five with both, five of the first side alone, thirty of the second alone.
        Mixed,
    }

    impl Design {
        /// Words of either side in each document.
        fn sizes(self, stream: &mut Stream) -> Vec<[usize; 2]> {
            let mut some = |most: usize| 1 + stream.below(most);
            match self {
                Self::Apart => [vec![[2, 0]; 10], vec![[0, 2]; 10]].concat(),
                Self::Together => (0..10).map(|_| [some(3), some(9)]).collect(),
                Self::Mixed => {
                    let both: Vec<_> = (0..5).map(|_| [some(3), some(9)]).collect();
                    let alone: Vec<_> = (0..35).map(|i| if i < 5 { [some(3), 0] } else { [0, some(9)] }).collect();
                    [both, alone].concat()
                }
            }
        }
    }

    /// With equal means, about 5 % of the tests have p < 0.05, about 95 % of the intervals cover
    /// the true value however similar the words of a document are, and almost no stem has q < 0.05.
    #[test]
    fn level_and_coverage_under_the_null() {
        let stems = 400;
        for (number, design) in [Design::Apart, Design::Together, Design::Mixed].into_iter().enumerate() {
            let mut stream = Stream::new(11, Purpose::Init, number as u32);
            let mut sides: [Words; 2] = Default::default();
            for stem in 0..stems {
                for (document, sizes) in design.sizes(&mut stream).into_iter().enumerate() {
                    let own = 0.03 * stream.normal(); // shared by the words of a document
                    for (side, words) in sizes.into_iter().enumerate() {
                        for _ in 0..words {
                            sides[side].0.push(stem);
                            sides[side].1.push(document);
                            sides[side].2.push(0.1 + own + 0.03 * stream.normal());
                        }
                    }
                }
            }
            let resampling = Resampling { samples: 499, confidence_level: 0.95, seed: 1 };
            let found = stem_contrasts([0, 1].map(|side: usize| occurrences(&sides[side])), resampling).unwrap();
            let share =
                |of: &dyn Fn(&StemContrast) -> bool| found.iter().filter(|one| of(one)).count() as f64 / stems as f64;
            let covers = |interval: Option<[f64; 2]>, truth: f64| {
                interval.is_some_and(|[low, high]| low <= truth && truth <= high)
            };
            // The standard deviation of a share of 400 is 0.011 around 0.05.
            let (p, q) = (share(&|one| one.p.unwrap() < 0.05), share(&|one| one.q.unwrap() < 0.05));
            assert!((0.01..0.085).contains(&p) && q <= 0.0025, "{design:?}: p {p}, q {q}");
            let covered = share(&|one| covers(one.interval, 0.0));
            assert!(covered > 0.90, "{design:?}: the difference is covered {covered}");
            for side in 0..2 {
                let covered = share(&|one| covers(one.groups[side].interval, 0.1));
                assert!(covered > 0.90, "{design:?}: the mean of side {side} is covered {covered}");
            }
        }
    }

    #[test]
    fn a_contrast_finds_only_the_stem_that_differs() {
        // 60 documents with a word of each of 20 stems in both groups; stem 7 weighs 0.3 more in the first.
        let mut stream = Stream::new(5, Purpose::Init, 0);
        let mut groups: [Words; 2] = Default::default();
        for (side, (stems, documents, weights)) in groups.iter_mut().enumerate() {
            for document in 0..60 {
                for stem in 0..20 {
                    stems.push(stem);
                    documents.push(document);
                    weights.push(0.2 * stream.normal() + if stem == 7 && side == 0 { 0.3 } else { 0.0 });
                }
            }
        }
        let occurrences = [0, 1].map(|side: usize| occurrences(&groups[side]));
        let contrasts =
            stem_contrasts(occurrences, Resampling { samples: 2000, confidence_level: 0.95, seed: 1 }).unwrap();
        for (stem, contrast) in contrasts.iter().enumerate() {
            let found = contrast.q.unwrap() < 0.05;
            assert_eq!(found, stem == 7, "{stem}: {contrast:?}");
            assert!(contrast.q >= contrast.p);
        }
        let [low, high] = contrasts[7].interval.unwrap();
        assert!(low < contrasts[7].difference && contrasts[7].difference < high && low > 0.0);
        assert!((contrasts[7].effect.unwrap() - 1.5).abs() < 0.5); // 0.3 / 0.2
        // With the groups exchanged, only the sign changes.
        let other = stem_contrasts(
            [occurrences[1], occurrences[0]],
            Resampling { samples: 2000, confidence_level: 0.95, seed: 1 },
        );
        assert_eq!(other.unwrap()[7].difference, -contrasts[7].difference);
    }

    #[test]
    fn few_documents_have_no_test() {
        let (stems, documents, weights) = miniature();
        let first = Occurrences { stems: &stems, documents: &documents, weights: &weights };
        let second = Occurrences { stems: &[1, 1], documents: &[0, 1], weights: &[0.1, 0.2] };
        let contrasts = stem_contrasts([first, second], RESAMPLING).unwrap();
        assert_eq!((contrasts[0].groups[1].count, contrasts[0].p, contrasts[0].effect), (0, None, None));
        assert_eq!((contrasts[1].p, contrasts[1].q), (None, None)); // fewer than ten documents
        assert!((contrasts[1].difference - 0.25).abs() < 1e-15);
    }

    #[test]
    fn false_discovery_rates_by_hand() {
        // Benjamini-Hochberg: p * m / rank, made monotone from the largest down.
        let rates = false_discovery_rates(&[0.01, 0.04, 0.03, 0.5]);
        let expected = [0.04, 0.16 / 3.0, 0.16 / 3.0, 0.5];
        for (rate, expected) in rates.iter().zip(expected) {
            assert!((rate - expected).abs() < 1e-15, "{rates:?}");
        }
        assert!(false_discovery_rates(&[]).is_empty());
    }

    #[test]
    fn invalid_input_is_an_error() {
        let (stems, documents, weights) = miniature();
        let all = Occurrences { stems: &stems, documents: &documents, weights: &weights };
        let message = |words, resampling| stem_weights(words, resampling).unwrap_err().to_string();
        assert!(message(Occurrences { documents: &documents[1..], ..all }, RESAMPLING).starts_with("weights"));
        let bad = Occurrences { weights: &[0.1, f64::NAN, 0.1, 0.1], ..all };
        assert!(message(bad, RESAMPLING).contains("NaN is not a weight"));
        assert!(message(all, Resampling { confidence_level: 1.0, ..RESAMPLING }).starts_with("confidence_level"));
        assert!(message(all, Resampling { samples: 2_000_000, ..RESAMPLING }).starts_with("samples"));
        let none = Occurrences { stems: &[], documents: &[], weights: &[] };
        assert!(stem_weights(none, RESAMPLING).unwrap().is_empty());
    }
}
