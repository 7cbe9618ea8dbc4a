//! Folds for cross-validation, and leakage between training and test data.
//!
//! The paper cross-validates AIMed by document. By instance, as in some papers, pairs of one
//! sentence are on both sides of a split, and the scores are far too high. That is offered to
//! reproduce such figures; [`Leakage`] reports what is shared.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::Instance;
use crate::corpus::Sentence;
use crate::rng::{Purpose, Stream};
use crate::{Error, Result};

/// One fold of a cross-validation: ascending indices of instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fold {
    /// The fold's number: its position, or its number in a given assignment.
    pub number: usize,
    /// Instances to train on: all that are not in `test`.
    pub train: Vec<usize>,
    /// Instances to test on; every instance is in the `test` of exactly one fold.
    pub test: Vec<usize>,
}

/// `k` folds that keep documents together and have nearly the same number of instances: the
/// documents, shuffled with `seed`, are assigned, largest first, to the fold with the fewest
/// instances so far.
pub fn folds_by_document(instances: &[Instance], k: usize, seed: u64) -> Result<Vec<Fold>> {
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    for instance in instances {
        *sizes.entry(&instance.document).or_default() += 1;
    }
    check_k(k, sizes.len(), "documents")?;
    let mut stream = Stream::new(seed, Purpose::Sample, 0);
    // A sorted map, so that the shuffle does not depend on the order of the instances.
    let mut documents: Vec<(&str, usize)> = sizes.into_iter().collect();
    stream.shuffle(&mut documents);
    documents.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    // Otherwise the largest documents would always be in the first folds.
    let mut numbers: Vec<usize> = (0..k).collect();
    stream.shuffle(&mut numbers);
    let mut load = vec![(0_usize, 0_usize); k];
    let mut fold_of = HashMap::new();
    for (document, size) in documents {
        // By instances, then by documents, so that every fold gets one.
        let lightest = (0..k).min_by_key(|fold| (load[*fold], *fold)).unwrap_or(0);
        load[lightest].0 += size;
        load[lightest].1 += 1;
        fold_of.insert(document, numbers[lightest]);
    }
    let numbers: Vec<usize> = instances.iter().map(|instance| fold_of[instance.document.as_str()]).collect();
    Ok(assemble(&numbers))
}

/// `k` folds of single instances, whose sizes differ by at most one. Sentences and documents are on
/// both sides.
pub fn folds_by_instance(instances: &[Instance], k: usize, seed: u64) -> Result<Vec<Fold>> {
    check_k(k, instances.len(), "instances")?;
    let mut order: Vec<usize> = (0..instances.len()).collect();
    Stream::new(seed, Purpose::Sample, 0).shuffle(&mut order);
    let mut numbers = vec![0; instances.len()];
    for (position, index) in order.into_iter().enumerate() {
        numbers[index] = position % k;
    }
    Ok(assemble(&numbers))
}

/// Folds from a file or a column: the fold of every document, e.g. the ten published folds of
/// AIMed. Documents without an instance may be listed; an instance whose document is not is an
/// error.
pub fn folds_given(instances: &[Instance], fold_of: &HashMap<String, usize>) -> Result<Vec<Fold>> {
    let missing: BTreeSet<&str> = instances
        .iter()
        .map(|instance| instance.document.as_str())
        .filter(|document| !fold_of.contains_key(*document))
        .collect();
    if let Some(first) = missing.first() {
        let message =
            format!("{} documents have no fold, the first is `{first}`; give every document one", missing.len());
        return Err(Error::config("folds", message));
    }
    let numbers: Vec<usize> = instances.iter().map(|instance| fold_of[&instance.document]).collect();
    let folds = assemble(&numbers);
    match folds.len() {
        0 | 1 => Err(Error::config("folds", format!("at least 2 folds must have instances, not {}", folds.len()))),
        _ => Ok(folds),
    }
}

fn check_k(k: usize, most: usize, what: &str) -> Result<()> {
    if k < 2 || k > most {
        let message = format!("must be at least 2 and at most the number of {what} ({most}), not {k}");
        return Err(Error::config("folds", message));
    }
    Ok(())
}

/// The folds from the fold number of every instance.
fn assemble(numbers: &[usize]) -> Vec<Fold> {
    let different: BTreeSet<usize> = numbers.iter().copied().collect();
    let fold = |number: usize| {
        let (test, train) = (0..numbers.len()).partition(|index| numbers[*index] == number);
        Fold { number, train, test }
    };
    different.into_iter().map(fold).collect()
}

/// Content that training and test data share.
#[derive(Debug, Clone, PartialEq)]
pub struct Leakage {
    /// Documents with sentences on both sides, sorted.
    pub documents: Vec<String>,
    /// Pairs of sentences (training, test) with the same words, sorted by the test sentence; the
    /// same sentence on both sides is such a pair.
    pub sentences: Vec<(String, String)>,
    /// Pairs of sentences (training, test) that share most of their words but not all.
    pub near_duplicates: Vec<NearDuplicate>,
    /// The threshold of `near_duplicates`.
    pub threshold: f64,
}

/// Two sentences that are nearly the same.
#[derive(Debug, Clone, PartialEq)]
pub struct NearDuplicate {
    /// Identifier of the training sentence.
    pub train: String,
    /// Identifier of the test sentence.
    pub test: String,
    /// The Jaccard index of the two sets of lower-cased words.
    pub similarity: f64,
}

impl Leakage {
    /// The usual threshold for near-duplicates.
    pub const THRESHOLD: f64 = 0.8;

    /// Compare the sentences of training and test data. Words are runs of letters and digits,
    /// lower-cased; sentences whose Jaccard index is at least `threshold` are near-duplicates. All
    /// such pairs are found.
    pub fn between(train: &[&Sentence], test: &[&Sentence], threshold: f64) -> Result<Self> {
        if !(threshold > 0.0 && threshold <= 1.0) {
            return Err(Error::config("threshold", format!("must be above 0 and at most 1, not {threshold}")));
        }
        let known: BTreeSet<&str> = train.iter().map(|sentence| sentence.document.as_str()).collect();
        let shared: BTreeSet<&str> = test
            .iter()
            .map(|sentence| sentence.document.as_str())
            .filter(|document| known.contains(document))
            .collect();
        let index = Index::new(train, test, threshold);
        let mut sentences = BTreeSet::new();
        let mut near = BTreeMap::new();
        for (sentence, words) in test.iter().zip(&index.test) {
            for (other, similarity) in index.similar(words) {
                let (other, known) = (train[other], &index.train[other]);
                if known.order == words.order {
                    sentences.insert((sentence.id.clone(), other.id.clone()));
                } else {
                    near.insert((sentence.id.clone(), other.id.clone()), similarity);
                }
            }
        }
        Ok(Self {
            documents: shared.into_iter().map(str::to_owned).collect(),
            sentences: sentences.into_iter().map(|(test, train)| (train, test)).collect(),
            near_duplicates: near
                .into_iter()
                .map(|((test, train), similarity)| NearDuplicate { train, test, similarity })
                .collect(),
            threshold,
        })
    }

    /// Whether the two sides share nothing that this report looks at.
    pub fn is_clean(&self) -> bool {
        self.documents.is_empty() && self.sentences.is_empty() && self.near_duplicates.is_empty()
    }
}

/// The words of a sentence as numbers; rarer words have smaller ones.
struct Words {
    /// In the order of the text.
    order: Vec<u32>,
    /// Sorted, each once.
    set: Vec<u32>,
}

/// Prefix filtering (Chaudhuri et al., ICDE 2006): two sets with a Jaccard index of at least `t`
/// share one of the `n - ceil(t n) + 1` rarest words of each, so only sentences with a common rare
/// word are compared.
struct Index {
    train: Vec<Words>,
    test: Vec<Words>,
    with_word: HashMap<u32, Vec<usize>>,
    threshold: f64,
}

impl Index {
    fn new(train: &[&Sentence], test: &[&Sentence], threshold: f64) -> Self {
        let texts: Vec<Vec<String>> = train.iter().chain(test).map(|sentence| words_of(&sentence.text)).collect();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for word in texts.iter().flatten() {
            *counts.entry(word).or_default() += 1;
        }
        let mut by_count: Vec<(usize, &str)> = counts.into_iter().map(|(word, count)| (count, word)).collect();
        by_count.sort_unstable();
        let numbers: HashMap<&str, u32> = by_count.iter().zip(0..).map(|((_, word), number)| (*word, number)).collect();
        let mut words: Vec<Words> = texts
            .iter()
            .map(|text| {
                let order: Vec<u32> = text.iter().map(|word| numbers[word.as_str()]).collect();
                let mut set = order.clone();
                set.sort_unstable();
                set.dedup();
                Words { order, set }
            })
            .collect();
        let test = words.split_off(train.len());
        let mut index = Self { train: words, test, with_word: HashMap::new(), threshold };
        for (position, words) in index.train.iter().enumerate() {
            for word in index.rarest(words) {
                index.with_word.entry(*word).or_default().push(position);
            }
        }
        index
    }

    fn rarest<'a>(&self, words: &'a Words) -> &'a [u32] {
        let n = words.set.len();
        // One more where rounding could lose one.
        let prefix = n.saturating_sub((self.threshold * n as f64 - 1e-9).ceil() as usize) + 1;
        &words.set[..prefix.min(n)]
    }

    /// Training sentences at least as similar as the threshold.
    fn similar(&self, words: &Words) -> Vec<(usize, f64)> {
        let mut seen = HashSet::new();
        let candidates = self.rarest(words).iter().filter_map(|word| self.with_word.get(word)).flatten();
        candidates
            .filter(|position| seen.insert(**position))
            .map(|position| (*position, jaccard(&self.train[*position].set, &words.set)))
            .filter(|(_, similarity)| *similarity >= self.threshold)
            .collect()
    }
}

fn words_of(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

/// Common words over all words, of two sorted sets.
fn jaccard(a: &[u32], b: &[u32]) -> f64 {
    let common = a.iter().filter(|word| b.binary_search(word).is_ok()).count();
    let all = a.len() + b.len() - common;
    if all == 0 { 0.0 } else { common as f64 / all as f64 }
}
