//! Which stems a model looked at, over many instances (the paper's Table V), and in which instances more (its Fig. 4).
//!
//! Words of one document are alike, so what is drawn, permuted and counted are whole documents:
//!
//! * Intervals are bootstrap-t intervals over documents (Davison & Hinkley 1997, sections 2.4 and 3.8): the deviation of a
//!   resampled mean in units of its own standard error. Percentiles of the mean cover far less than they say where
//!   documents are few.
//! * A contrast is tested by a permutation test over documents. A document with both kinds of instances has its two sides
//!   swapped or not, by a fair coin; those of one kind exchange their labels. The statistic is the difference in units of its
//!   standard error, so that the level holds where the two sides differ in spread or size too (Chung & Romano 2013).
//! * Below [`LEAST_DOCUMENTS`] documents on a side there is neither.

use rayon::prelude::*;

use crate::eval::quantile;
use crate::rng::{Purpose, Stream};
use crate::{Error, Result};

/// So many documents must have a stem, in each group, for an interval or a test: with fewer, neither holds its level.
pub const LEAST_DOCUMENTS: u64 = 10;

/// Words with the attention they got: one entry in each list for every word that counts.
#[derive(Debug, Clone, Copy)]
pub struct Occurrences<'a> {
    /// Number of the word's stem, from 0.
    pub stems: &'a [usize],
    /// Number of the document, from 0.
    pub documents: &'a [usize],
    /// Its weight.
    pub weights: &'a [f64],
}

/// How the bootstrap and the permutation test draw.
#[derive(Debug, Clone, Copy)]
pub struct Draws {
    /// How many samples; 0 for neither intervals nor tests.
    pub samples: usize,
    /// Level of the intervals.
    pub level: f64,
    /// Seed of the draws.
    pub seed: u64,
}

/// The attention that a stem got.
#[derive(Debug, Clone, PartialEq)]
pub struct StemWeight {
    /// How many words have the stem.
    pub count: u64,
    /// In how many documents.
    pub documents: u64,
    /// Mean weight of these words.
    pub mean: f64,
    /// Its standard deviation; `None` for one word.
    pub sd: Option<f64>,
    /// Bootstrap-t interval of the mean; `None` below [`LEAST_DOCUMENTS`] documents.
    pub interval: Option<[f64; 2]>,
}

/// A stem's attention in one group of instances against another.
#[derive(Debug, Clone, PartialEq)]
pub struct StemContrast {
    /// The two groups.
    pub groups: [StemWeight; 2],
    /// Mean of the first less mean of the second.
    pub difference: f64,
    /// Bootstrap-t interval of the difference; `None` below [`LEAST_DOCUMENTS`] documents in either group.
    pub interval: Option<[f64; 2]>,
    /// Hedges' g: the difference in pooled standard deviations, corrected for small counts (Hedges 1981).
    pub effect: Option<f64>,
    /// Two-sided, of the permutation test: the share of permutations whose statistic is at least as far from 0 as the
    /// observed one, both counted with one more. `None` below [`LEAST_DOCUMENTS`] documents in either group.
    pub p: Option<f64>,
    /// `p` corrected for the number of stems tested: false discovery rate (Benjamini & Hochberg 1995).
    pub q: Option<f64>,
}

/// The attention of every stem.
///
/// # Errors
/// [`Error::Config`] for lists of different lengths, a weight that is not finite, or draws out of range.
pub fn stem_weights(occurrences: Occurrences<'_>, draws: Draws) -> Result<Vec<StemWeight>> {
    draws.check()?;
    let sides = sides_of(occurrences, occurrences.stem_count())?;
    Ok(sides.par_iter().map(|side| side.weight(draws)).collect())
}

/// Mean of values, of which some are of the same document, with its interval.
///
/// # Errors
/// As [`stem_weights`].
pub fn bootstrap_mean(values: &[f64], documents: &[usize], draws: Draws) -> Result<StemWeight> {
    let stems = vec![0; values.len()];
    let mut means = stem_weights(Occurrences { stems: &stems, documents, weights: values }, draws)?;
    means.pop().ok_or_else(|| Error::config("values", "there are none to average"))
}

/// The attention of every stem in the first group of instances against the second. Stems and documents are numbered
/// through both; a document may have instances of both groups.
///
/// # Errors
/// As [`stem_weights`].
pub fn stem_contrasts(groups: [Occurrences<'_>; 2], draws: Draws) -> Result<Vec<StemContrast>> {
    draws.check()?;
    let stems = groups.map(|group| group.stem_count()).into_iter().max().unwrap_or(0);
    let [first, second] = groups.map(|group| sides_of(group, stems));
    let (first, second) = (first?, second?);
    let mut contrasts: Vec<StemContrast> =
        first.par_iter().zip(&second).map(|(first, second)| contrast(first, second, draws)).collect();
    let tested: Vec<usize> = (0..stems).filter(|index| contrasts[*index].p.is_some()).collect();
    let p: Vec<f64> = tested.iter().filter_map(|index| contrasts[*index].p).collect();
    for (index, q) in tested.into_iter().zip(false_discovery_rates(&p)) {
        contrasts[index].q = Some(q);
    }
    Ok(contrasts)
}

fn contrast(first: &Side, second: &Side, draws: Draws) -> StemContrast {
    let groups = [first.weight(draws), second.weight(draws)];
    let difference = groups[0].mean - groups[1].mean;
    let testable = groups.iter().all(|group| group.documents >= LEAST_DOCUMENTS) && draws.samples > 0;
    let documents = merge(first, second);
    let interval = if testable { draws.interval(&documents) } else { None };
    let p = testable.then(|| permutation_test(&documents, draws));
    StemContrast { effect: hedges_g(&groups), groups, difference, interval, p, q: None }
}

impl Occurrences<'_> {
    fn stem_count(&self) -> usize {
        self.stems.iter().max().map_or(0, |last| last + 1)
    }
}

/// Words of a stem in one document, on either side: their number and the sum of their weights.
#[derive(Debug, Clone, Copy, Default)]
struct Document {
    sides: [(f64, f64); 2],
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
    /// The mean of side 0 less that of side 1, or of side 0 alone where side 1 is empty in all documents. Its error is that
    /// of a ratio of sums over documents (linearised), as if the sides' documents had been drawn: `None` where a side that
    /// is there has fewer than 2.
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
        // What a document's words add to each side's mean, in the small-sample scale n / (n - 1).
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

    /// The difference from `center` in units of the error; rounding noise counts as none.
    fn studentized(&self, center: f64) -> f64 {
        let distance = self.difference - center;
        let noise = 1e-12 * (self.difference.abs() + center.abs());
        if distance.abs() <= noise { 0.0 } else { distance / self.error }
    }
}

/// The share of permutations at least as far from 0 as the observation.
fn permutation_test(documents: &[Document], draws: Draws) -> f64 {
    let Some(observed) = Estimate::of(documents.iter(), true).map(|estimate| estimate.studentized(0.0)) else {
        return 1.0;
    };
    let (both, one): (Vec<Document>, Vec<Document>) =
        documents.iter().partition(|document| document.is_on(0) && document.is_on(1));
    let first = one.iter().filter(|document| document.is_on(0)).count();
    let mut permuted: Vec<Document> = one.iter().chain(&both).copied().collect();
    let mut far = 0;
    for sample in 0..draws.samples {
        let mut stream = Stream::new(draws.seed, Purpose::Sample, sample as u32);
        let (one, both) = permuted.split_at_mut(one.len());
        // Labels are exchanged by shuffling the documents: the first so many are on side 0.
        stream.shuffle(one);
        for (place, document) in one.iter_mut().enumerate() {
            let words = if document.is_on(0) { document.sides[0] } else { document.sides[1] };
            document.sides = if place < first { [words, (0.0, 0.0)] } else { [(0.0, 0.0), words] };
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
        // A rounding error must not decide whether a sample is as far off as the observation.
        let far_off = |t: f64| t.abs() >= observed.abs() * (1.0 - 1e-9) || t.is_nan();
        far +=
            usize::from(Estimate::of(permuted.iter(), true).is_none_or(|estimate| far_off(estimate.studentized(0.0))));
    }
    (far + 1) as f64 / (draws.samples + 1) as f64
}

impl Draws {
    fn check(self) -> Result<()> {
        if self.samples > 1_000_000 {
            return Err(Error::config("samples", format!("must be at most 1,000,000, not {}", self.samples)));
        }
        if !(self.level > 0.0 && self.level < 1.0) {
            return Err(Error::config("level", format!("must be between 0 and 1, not {}", self.level)));
        }
        Ok(())
    }

    /// Bootstrap-t interval of a difference, or of a mean where no document is on side 1. The draws depend on the number of
    /// documents alone: a stem has the same interval whatever other stems are asked about.
    fn interval(self, documents: &[Document]) -> Option<[f64; 2]> {
        let both = documents.iter().any(|document| document.is_on(1));
        let whole = Estimate::of(documents.iter(), both)?;
        let mut deviations = Vec::with_capacity(self.samples);
        let mut drawn: Vec<&Document> = Vec::with_capacity(documents.len());
        for sample in 0..self.samples {
            let mut stream = Stream::new(self.seed, Purpose::Sample, sample as u32);
            drawn.clear();
            drawn.extend((0..documents.len()).map(|_| &documents[stream.below(documents.len())]));
            let deviation = Estimate::of(drawn.iter().copied(), both)
                .map(|estimate| estimate.studentized(whole.difference))
                .filter(|deviation| deviation.is_finite());
            deviations.extend(deviation);
        }
        if deviations.len() * 2 < self.samples.max(1) {
            return None;
        }
        deviations.sort_by(f64::total_cmp);
        let tail = (1.0 - self.level) / 2.0;
        let end = |share: f64| whole.difference - quantile(&deviations, share) * whole.error;
        Some([end(1.0 - tail), end(tail)])
    }
}

/// The words of a stem in one group of instances.
#[derive(Debug, Default)]
struct Side {
    /// Number of the document, words, sum of their weights; sorted.
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
        return Err(Error::config("weights", format!("{bad} is no weight")));
    }
    let mut lists: Vec<Vec<(usize, f64)>> = vec![Vec::new(); stems];
    for ((stem, document), weight) in numbers.iter().zip(documents).zip(weights) {
        lists[*stem].push((*document, *weight));
    }
    let side = |mut words: Vec<(usize, f64)>| {
        // A stable order of addition, however the rows were sorted.
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

/// The documents of both sides, in the order of their numbers.
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
    fn weight(&self, draws: Draws) -> StemWeight {
        let words: f64 = self.parts.iter().map(|part| part.1).sum();
        let documents = self.parts.len() as u64;
        let enough = documents >= LEAST_DOCUMENTS && draws.samples > 0;
        StemWeight {
            count: words as u64,
            documents,
            mean: self.parts.iter().map(|part| part.2).sum::<f64>() / words,
            sd: (words > 1.0).then(|| (self.deviations / (words - 1.0)).sqrt()),
            interval: if enough { draws.interval(&merge(self, &Side::default())) } else { None },
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

    const DRAWS: Draws = Draws { samples: 500, level: 0.9, seed: 1 };

    /// Stem 0: 0.1, 0.2 (document 0), 0.6 (document 1). Stem 1: 0.4 (document 2).
    fn miniature() -> ([usize; 4], [usize; 4], [f64; 4]) {
        ([0, 1, 0, 0], [0, 2, 1, 0], [0.1, 0.4, 0.6, 0.2])
    }

    #[test]
    fn a_miniature_by_hand() {
        let (stems, documents, weights) = miniature();
        let table =
            stem_weights(Occurrences { stems: &stems, documents: &documents, weights: &weights }, DRAWS).unwrap();
        let [first, second] = &table[..] else { panic!("{table:?}") };
        assert_eq!((first.count, first.documents, second.count, second.documents), (3, 2, 1, 1));
        assert!((first.mean - 0.3).abs() < 1e-15);
        assert!((first.sd.unwrap() - 0.07_f64.sqrt()).abs() < 1e-15); // (0.04 + 0.01 + 0.09) / 2
        assert_eq!((first.interval, second.interval), (None, None)); // fewer than ten documents
        assert_eq!((second.mean, second.sd), (0.4, None));
    }

    /// The standard error of a mean over documents: sums 0.3 of two words and 0.6 of one, mean 0.3.
    #[test]
    fn an_estimate_by_hand() {
        let document = |first, second| Document { sides: [first, second] };
        let documents = [document((2.0, 0.3), (0.0, 0.0)), document((1.0, 0.6), (0.0, 0.0))];
        let estimate = Estimate::of(documents.iter(), false).unwrap();
        // Influences (0.3 - 2 * 0.3) / 3 and (0.6 - 0.3) / 3; n / (n - 1) is 2.
        assert!((estimate.difference - 0.3).abs() < 1e-15 && (estimate.error - 0.2).abs() < 1e-15, "{estimate:?}");
        // Both sides in the same documents, the second always 0.1 less: the difference has no error.
        let documents = [document((1.0, 0.4), (1.0, 0.3)), document((1.0, 0.8), (1.0, 0.7))];
        let estimate = Estimate::of(documents.iter(), true).unwrap();
        assert!((estimate.difference - 0.1).abs() < 1e-15 && estimate.error < 1e-15, "{estimate:?}");
        assert!(Estimate::of(documents[..1].iter(), true).is_none());
    }

    #[test]
    fn the_interval_is_that_of_the_normal_where_documents_are_many() {
        let mut stream = Stream::new(3, Purpose::Init, 0);
        let weights: Vec<f64> = (0..2000).map(|_| stream.normal()).collect();
        let documents: Vec<usize> = (0..2000).collect();
        let draws = Draws { samples: 4000, level: 0.95, seed: 1 };
        let stem = bootstrap_mean(&weights, &documents, draws).unwrap();
        let half = 1.96 * stem.sd.unwrap() / 2000_f64.sqrt();
        let [low, high] = stem.interval.unwrap();
        // The quantiles of 4000 samples are within some 4 % of a standard error.
        assert!((stem.mean - half - low).abs() < 0.1 * half && (stem.mean + half - high).abs() < 0.1 * half);
        assert!(bootstrap_mean(&[], &[], draws).unwrap_err().to_string().contains("none to average"));
    }

    #[test]
    fn words_of_one_document_are_drawn_together() {
        // Ten equal words in each of 20 documents: as much evidence as one word in each.
        let documents: Vec<usize> = (0..200).map(|word| word / 10).collect();
        let weights: Vec<f64> = documents.iter().map(|document| (document % 5) as f64 / 10.0).collect();
        let single: Vec<usize> = (0..20).collect();
        let one: Vec<f64> = single.iter().map(|document| (document % 5) as f64 / 10.0).collect();
        let intervals = [(&weights, &documents), (&one, &single)]
            .map(|(weights, documents)| bootstrap_mean(weights, documents, DRAWS).unwrap().interval.unwrap());
        for (a, b) in intervals[0].iter().zip(intervals[1]) {
            assert!((a - b).abs() < 1e-12, "{intervals:?}");
        }
    }

    /// A stem's words on one side.
    type Words = (Vec<usize>, Vec<usize>, Vec<f64>);

    fn occurrences((stems, documents, weights): &Words) -> Occurrences<'_> {
        Occurrences { stems, documents, weights }
    }

    /// How the documents of both sides are related in a simulation.
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

    /// Where both sides have the same mean, one test in twenty is below 0.05 and nineteen intervals in twenty hold the
    /// truth, whatever documents have in common; and no stem passes q < 0.05 but by that chance.
    #[test]
    fn level_and_coverage_where_nothing_differs() {
        let stems = 400;
        for (number, design) in [Design::Apart, Design::Together, Design::Mixed].into_iter().enumerate() {
            let mut stream = Stream::new(11, Purpose::Init, number as u32);
            let mut sides: [Words; 2] = Default::default();
            for stem in 0..stems {
                for (document, sizes) in design.sizes(&mut stream).into_iter().enumerate() {
                    let own = 0.03 * stream.normal(); // what the words of a document share
                    for (side, words) in sizes.into_iter().enumerate() {
                        for _ in 0..words {
                            sides[side].0.push(stem);
                            sides[side].1.push(document);
                            sides[side].2.push(0.1 + own + 0.03 * stream.normal());
                        }
                    }
                }
            }
            let draws = Draws { samples: 499, level: 0.95, seed: 1 };
            let found = stem_contrasts([0, 1].map(|side: usize| occurrences(&sides[side])), draws).unwrap();
            let share =
                |of: &dyn Fn(&StemContrast) -> bool| found.iter().filter(|one| of(one)).count() as f64 / stems as f64;
            let holds = |interval: Option<[f64; 2]>, truth: f64| {
                interval.is_some_and(|[low, high]| low <= truth && truth <= high)
            };
            // The standard deviation of a share of 400 is 0.011 around 0.05.
            let (p, q) = (share(&|one| one.p.unwrap() < 0.05), share(&|one| one.q.unwrap() < 0.05));
            assert!((0.01..0.085).contains(&p) && q <= 0.0025, "{design:?}: p {p}, q {q}");
            let covered = share(&|one| holds(one.interval, 0.0));
            assert!(covered > 0.90, "{design:?}: the difference is covered {covered}");
            for side in 0..2 {
                let covered = share(&|one| holds(one.groups[side].interval, 0.1));
                assert!(covered > 0.90, "{design:?}: the mean of side {side} is covered {covered}");
            }
        }
    }

    #[test]
    fn a_contrast_finds_what_differs_and_nothing_else() {
        // 60 documents with a word of each of 20 stems in both groups; stem 7 gets 0.3 more in the first.
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
        let contrasts = stem_contrasts(occurrences, Draws { samples: 2000, level: 0.95, seed: 1 }).unwrap();
        for (stem, contrast) in contrasts.iter().enumerate() {
            let found = contrast.q.unwrap() < 0.05;
            assert_eq!(found, stem == 7, "{stem}: {contrast:?}");
            assert!(contrast.q >= contrast.p);
        }
        let [low, high] = contrasts[7].interval.unwrap();
        assert!(low < contrasts[7].difference && contrasts[7].difference < high && low > 0.0);
        assert!((contrasts[7].effect.unwrap() - 1.5).abs() < 0.5); // 0.3 / 0.2
        // The other way round: the same, with the other sign.
        let other = stem_contrasts([occurrences[1], occurrences[0]], Draws { samples: 2000, level: 0.95, seed: 1 });
        assert_eq!(other.unwrap()[7].difference, -contrasts[7].difference);
    }

    #[test]
    fn few_documents_have_no_test() {
        let (stems, documents, weights) = miniature();
        let first = Occurrences { stems: &stems, documents: &documents, weights: &weights };
        let second = Occurrences { stems: &[1, 1], documents: &[0, 1], weights: &[0.1, 0.2] };
        let contrasts = stem_contrasts([first, second], DRAWS).unwrap();
        assert_eq!((contrasts[0].groups[1].count, contrasts[0].p, contrasts[0].effect), (0, None, None));
        assert_eq!((contrasts[1].p, contrasts[1].q), (None, None)); // fewer than ten documents
        assert!((contrasts[1].difference - 0.25).abs() < 1e-15);
    }

    #[test]
    fn false_discovery_rates_by_hand() {
        // Benjamini-Hochberg: p * m / rank, made monotone from the largest down.
        let rates = false_discovery_rates(&[0.01, 0.04, 0.03, 0.5]);
        let wanted = [0.04, 0.16 / 3.0, 0.16 / 3.0, 0.5];
        for (rate, wanted) in rates.iter().zip(wanted) {
            assert!((rate - wanted).abs() < 1e-15, "{rates:?}");
        }
        assert!(false_discovery_rates(&[]).is_empty());
    }

    #[test]
    fn what_cannot_be_counted_is_an_error() {
        let (stems, documents, weights) = miniature();
        let whole = Occurrences { stems: &stems, documents: &documents, weights: &weights };
        let message = |words, draws| stem_weights(words, draws).unwrap_err().to_string();
        assert!(message(Occurrences { documents: &documents[1..], ..whole }, DRAWS).starts_with("weights"));
        let bad = Occurrences { weights: &[0.1, f64::NAN, 0.1, 0.1], ..whole };
        assert!(message(bad, DRAWS).contains("NaN is no weight"));
        assert!(message(whole, Draws { level: 1.0, ..DRAWS }).starts_with("level"));
        assert!(message(whole, Draws { samples: 2_000_000, ..DRAWS }).starts_with("samples"));
        let nothing = Occurrences { stems: &[], documents: &[], weights: &[] };
        assert!(stem_weights(nothing, DRAWS).unwrap().is_empty());
    }
}
