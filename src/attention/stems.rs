//! Which stems a model looked at, over many instances (the paper's Table V), and in which instances more (its Fig. 4).
//!
//! Words of one document are alike, so confidence intervals and tests draw whole documents (the cluster bootstrap: Davison
//! & Hinkley 1997, section 3.8), the same ones for every stem.

use rayon::prelude::*;

use crate::rng::{Purpose, Stream};
use crate::{Error, Result};

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

/// How the bootstrap draws.
#[derive(Debug, Clone, Copy)]
pub struct Draws {
    /// How many samples.
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
    /// Percentile interval of the mean; `None` where fewer than 2 documents have the stem.
    pub interval: Option<[f64; 2]>,
}

/// A stem's attention in one group of instances against another.
#[derive(Debug, Clone, PartialEq)]
pub struct StemContrast {
    /// The two groups.
    pub groups: [StemWeight; 2],
    /// Mean of the first less mean of the second.
    pub difference: f64,
    /// Percentile interval of the difference.
    pub interval: Option<[f64; 2]>,
    /// Hedges' g: the difference in pooled standard deviations, corrected for small counts (Hedges 1981).
    pub effect: Option<f64>,
    /// Two-sided: the share of samples that depart from the difference by at least as much as that departs from 0, both
    /// counted with one more sample. `None` where either group has the stem in fewer than 2 documents.
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
    let table = Table::of(occurrences, occurrences.stem_count(), occurrences.document_count())?;
    let means = draws.samples(table.documents, |times| table.stems.iter().map(|stem| stem.mean(times)).collect());
    let weigh = |(index, stem): (usize, &Stem)| {
        stem.weight(interval_of(means.iter().filter_map(|sample| sample[index]).collect(), draws.level))
    };
    Ok(table.stems.par_iter().enumerate().map(weigh).collect())
}

/// The attention of every stem in the first group of instances against the second. Stems and documents are numbered
/// through both; a document may have instances of both groups.
///
/// # Errors
/// As [`stem_weights`].
pub fn stem_contrasts(groups: [Occurrences<'_>; 2], draws: Draws) -> Result<Vec<StemContrast>> {
    draws.check()?;
    let stems = groups.map(|group| group.stem_count()).into_iter().max().unwrap_or(0);
    let documents = groups.map(|group| group.document_count()).into_iter().max().unwrap_or(0);
    let [first, second] = groups.map(|group| Table::of(group, stems, documents));
    let (first, second) = (first?, second?);
    let means = draws.samples(documents, |times| {
        let pairs = first.stems.iter().zip(&second.stems);
        pairs.map(|(a, b)| Some([a.mean(times), b.mean(times)])).collect()
    });
    let contrast = |index: usize| {
        let sides = [&first.stems[index], &second.stems[index]];
        let samples = || means.iter().filter_map(|sample: &Vec<Option<[Option<f64>; 2]>>| sample[index]);
        let weigh = |side: usize| {
            sides[side].weight(interval_of(samples().filter_map(|means| means[side]).collect(), draws.level))
        };
        let groups = [weigh(0), weigh(1)];
        let difference = groups[0].mean - groups[1].mean;
        let differences: Vec<f64> = samples().filter_map(|[a, b]| Some(a? - b?)).collect();
        let testable = groups.iter().all(|group| group.documents >= 2) && !differences.is_empty();
        // A rounding error must not decide whether a sample is as far off as the observation.
        let far = differences.iter().filter(|d| (**d - difference).abs() >= difference.abs() - 1e-12).count();
        let p = testable.then(|| (far + 1) as f64 / (differences.len() + 1) as f64);
        let interval = if testable { interval_of(differences, draws.level) } else { None };
        let effect = hedges_g(&groups);
        StemContrast { groups, difference, interval, effect, p, q: None }
    };
    let mut contrasts: Vec<StemContrast> = (0..stems).into_par_iter().map(contrast).collect();
    let tested: Vec<usize> = (0..stems).filter(|index| contrasts[*index].p.is_some()).collect();
    let p: Vec<f64> = tested.iter().filter_map(|index| contrasts[*index].p).collect();
    for (index, q) in tested.into_iter().zip(false_discovery_rates(&p)) {
        contrasts[index].q = Some(q);
    }
    Ok(contrasts)
}

impl Occurrences<'_> {
    fn stem_count(&self) -> usize {
        self.stems.iter().max().map_or(0, |last| last + 1)
    }

    fn document_count(&self) -> usize {
        self.documents.iter().max().map_or(0, |last| last + 1)
    }
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

    /// What `of` says of every sample, from how often it has each document.
    fn samples<T: Send>(self, documents: usize, of: impl Fn(&[u32]) -> Vec<T> + Sync) -> Vec<Vec<T>> {
        let sample = |sample: usize| {
            let mut stream = Stream::new(self.seed, Purpose::Sample, sample as u32);
            let mut times = vec![0_u32; documents];
            for _ in 0..documents {
                times[stream.below(documents)] += 1;
            }
            of(&times)
        };
        (0..self.samples).into_par_iter().map(sample).collect()
    }
}

/// The words of a stem in one document.
struct Part {
    document: usize,
    count: u32,
    sum: f64,
}

struct Stem {
    parts: Vec<Part>,
    /// Sum of squared deviations from the mean.
    deviations: f64,
}

struct Table {
    stems: Vec<Stem>,
    documents: usize,
}

impl Table {
    fn of(occurrences: Occurrences<'_>, stems: usize, documents: usize) -> Result<Self> {
        let Occurrences { stems: numbers, documents: places, weights } = occurrences;
        if numbers.len() != weights.len() || places.len() != weights.len() {
            let message = format!("{} stems, {} documents, {} weights", numbers.len(), places.len(), weights.len());
            return Err(Error::config("weights", message));
        }
        if let Some(bad) = weights.iter().find(|weight| !weight.is_finite()) {
            return Err(Error::config("weights", format!("{bad} is no weight")));
        }
        let mut lists: Vec<Vec<(usize, f64)>> = vec![Vec::new(); stems];
        for ((stem, document), weight) in numbers.iter().zip(places).zip(weights) {
            lists[*stem].push((*document, *weight));
        }
        let stem = |mut words: Vec<(usize, f64)>| {
            // A stable order of addition, however the rows were sorted.
            words.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
            let mean = words.iter().map(|(_, weight)| weight).sum::<f64>() / words.len().max(1) as f64;
            let deviations = words.iter().map(|(_, weight)| (weight - mean).powi(2)).sum();
            let parts = words.chunk_by(|a, b| a.0 == b.0);
            let part = |words: &[(usize, f64)]| Part {
                document: words[0].0,
                count: words.len() as u32,
                sum: words.iter().map(|(_, weight)| weight).sum(),
            };
            Stem { parts: parts.map(part).collect(), deviations }
        };
        Ok(Self { stems: lists.into_par_iter().map(stem).collect(), documents })
    }
}

impl Stem {
    /// Mean weight where document `d` counts `times[d]` times; `None` where none of its words is there.
    fn mean(&self, times: &[u32]) -> Option<f64> {
        let (mut count, mut sum) = (0_u64, 0.0);
        for part in &self.parts {
            let times = times[part.document];
            count += u64::from(times) * u64::from(part.count);
            sum += f64::from(times) * part.sum;
        }
        (count > 0).then(|| sum / count as f64)
    }

    fn weight(&self, interval: Option<[f64; 2]>) -> StemWeight {
        let count: u64 = self.parts.iter().map(|part| u64::from(part.count)).sum();
        StemWeight {
            count,
            documents: self.parts.len() as u64,
            mean: self.parts.iter().map(|part| part.sum).sum::<f64>() / count as f64,
            sd: (count > 1).then(|| (self.deviations / (count - 1) as f64).sqrt()),
            interval: interval.filter(|_| self.parts.len() >= 2),
        }
    }
}

/// Percentile interval; quantiles by linear interpolation, as numpy's.
fn interval_of(mut values: Vec<f64>, level: f64) -> Option<[f64; 2]> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    let quantile = |share: f64| {
        let place = share * last as f64;
        let (below, above) = (place.floor() as usize, place.ceil() as usize);
        values[below] + (values[above] - values[below]) * place.fract()
    };
    let tail = (1.0 - level) / 2.0;
    Some([quantile(tail), quantile(1.0 - tail)])
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
        // A sample has document 0 alone (mean 0.15), document 1 alone (0.6), or both in some proportion.
        let [low, high] = first.interval.unwrap();
        assert!((low - 0.15).abs() < 1e-15 && (high - 0.6).abs() < 1e-15);
        assert_eq!((second.mean, second.sd, second.interval), (0.4, None, None));
    }

    #[test]
    fn the_bootstrap_interval_is_that_of_the_normal_where_documents_are_many() {
        let mut stream = Stream::new(3, Purpose::Init, 0);
        let weights: Vec<f64> = (0..2000).map(|_| stream.normal()).collect();
        let documents: Vec<usize> = (0..2000).collect();
        let draws = Draws { samples: 4000, level: 0.95, seed: 1 };
        let stems = vec![0; 2000];
        let table = stem_weights(Occurrences { stems: &stems, documents: &documents, weights: &weights }, draws);
        let stem = table.unwrap().remove(0);
        let half = 1.96 * stem.sd.unwrap() / 2000_f64.sqrt();
        let [low, high] = stem.interval.unwrap();
        // The quantiles of 4000 samples are within some 4 % of a standard error.
        assert!((stem.mean - half - low).abs() < 0.1 * half && (stem.mean + half - high).abs() < 0.1 * half);
    }

    #[test]
    fn words_of_one_document_are_drawn_together() {
        // Ten equal words in each of 20 documents: as much evidence as one word in each.
        let documents: Vec<usize> = (0..200).map(|word| word / 10).collect();
        let weights: Vec<f64> = documents.iter().map(|document| (document % 5) as f64 / 10.0).collect();
        let all = Occurrences { stems: &[0; 200], documents: &documents, weights: &weights };
        let single: Vec<usize> = (0..20).collect();
        let one: Vec<f64> = single.iter().map(|document| (document % 5) as f64 / 10.0).collect();
        let few = Occurrences { stems: &[0; 20], documents: &single, weights: &one };
        let intervals = [all, few].map(|words| stem_weights(words, DRAWS).unwrap()[0].interval.unwrap());
        for (a, b) in intervals[0].iter().zip(intervals[1]) {
            assert!((a - b).abs() < 1e-12, "{intervals:?}");
        }
    }

    #[test]
    fn a_contrast_finds_what_differs_and_nothing_else() {
        // 60 documents with a word of each of 20 stems in both groups; stem 7 gets 0.3 more in the first.
        let mut stream = Stream::new(5, Purpose::Init, 0);
        let mut groups: [(Vec<usize>, Vec<usize>, Vec<f64>); 2] = Default::default();
        for (side, (stems, documents, weights)) in groups.iter_mut().enumerate() {
            for document in 0..60 {
                for stem in 0..20 {
                    stems.push(stem);
                    documents.push(document);
                    weights.push(0.2 * stream.normal() + if stem == 7 && side == 0 { 0.3 } else { 0.0 });
                }
            }
        }
        let occurrences = [0, 1].map(|side: usize| &groups[side]).map(|(stems, documents, weights)| Occurrences {
            stems,
            documents,
            weights,
        });
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
    fn a_stem_of_one_group_has_no_test() {
        let (stems, documents, weights) = miniature();
        let first = Occurrences { stems: &stems, documents: &documents, weights: &weights };
        let second = Occurrences { stems: &[1, 1], documents: &[0, 1], weights: &[0.1, 0.2] };
        let contrasts = stem_contrasts([first, second], DRAWS).unwrap();
        assert_eq!((contrasts[0].groups[1].count, contrasts[0].p, contrasts[0].effect), (0, None, None));
        assert_eq!((contrasts[1].p, contrasts[1].q), (None, None)); // one document in the first group
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
