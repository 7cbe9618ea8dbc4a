//! New splits by document, and held-out folds.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use strum::{IntoStaticStr, VariantArray};

use super::{Fold, Instance, Marking, folds_by_document, folds_by_instance, folds_given, instances};
use crate::corpus::{Corpus, FindingKind, Pair, Sentence, Split};
use crate::rng::{Purpose, Stream};
use crate::{Error, Result};

/// What stays together in a fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum FoldUnit {
    /// Documents: no part of a test document is trained on.
    Document,
    /// The folds that the corpus itself states, by document too.
    Given,
    /// Single pairs, as in some papers: sentences are on both sides.
    Instance,
}

named!(FoldUnit, "by");

/// Build the named splits, each from the documents that are listed for it.
pub fn divide(corpus: &Corpus, parts: &[(String, Vec<String>)]) -> Result<Corpus> {
    let known = documents(corpus);
    let mut part_of: HashMap<&str, usize> = HashMap::new();
    for (part, (name, documents)) in parts.iter().enumerate() {
        if parts[..part].iter().any(|(other, _)| other == name) {
            return Err(Error::config("parts", format!("there are two parts `{name}`")));
        }
        for document in documents {
            if !known.contains(document.as_str()) {
                return Err(Error::config("parts", format!("{} has no document `{document}`", corpus.name)));
            }
            if part_of.insert(document, part).is_some_and(|other| other != part) {
                return Err(Error::config("parts", format!("document `{document}` is in two parts")));
            }
        }
    }
    let mut splits: Vec<Split> =
        parts.iter().map(|(name, _)| Split { name: name.clone(), sentences: Vec::new() }).collect();
    for sentence in corpus.sentences() {
        if let Some(part) = part_of.get(sentence.document.as_str()) {
            splits[*part].sentences.push(sentence.clone());
        }
    }
    if let Some(empty) = splits.iter().find(|split| split.pairs() == 0) {
        return Err(Error::config("parts", format!("part `{}` has no candidate pair", empty.name)));
    }
    let mut divided = Corpus { splits, ..corpus.clone() };
    for finding in &mut divided.report.findings {
        // Findings about documents that an earlier division left out stay out.
        let document = finding.document.as_deref().filter(|_| finding.split.is_some());
        finding.split = document.and_then(|document| part_of.get(document)).map(|part| parts[*part].0.clone());
    }
    Ok(divided)
}

/// The documents of a corpus, sorted: those of its sentences, and those that have only lost gold
/// positives.
fn documents(corpus: &Corpus) -> BTreeSet<&str> {
    let findings = corpus.report.findings.iter().filter(|finding| finding.split.is_some());
    let sentences = corpus.sentences().map(|sentence| sentence.document.as_str());
    sentences.chain(findings.filter_map(|finding| finding.document.as_deref())).collect()
}

/// The numbers of a corpus's folds: those that the corpus states, or `0..folds`.
pub fn fold_numbers(corpus: &Corpus, folds: i64, unit: FoldUnit, seed: u64) -> Result<Vec<usize>> {
    let sentences: Vec<Sentence> = corpus.sentences().cloned().collect();
    let pairs = instances(&sentences, &corpus.task, Marking::Typed)?;
    Ok(all_folds(corpus, &pairs, folds, unit, seed)?.iter().map(|fold| fold.number).collect())
}

fn all_folds(corpus: &Corpus, pairs: &[Instance], folds: i64, unit: FoldUnit, seed: u64) -> Result<Vec<Fold>> {
    let k = || {
        usize::try_from(folds)
            .map_err(|_| Error::config("folds", format!("{folds} is out of range; it must be at least 2")))
    };
    match (unit, &corpus.folds) {
        (FoldUnit::Given, Some(given)) => {
            folds_given(pairs, &given.iter().map(|(document, fold)| (document.clone(), *fold)).collect())
        }
        (FoldUnit::Given, None) => {
            let message = format!("{} states no folds; choose document or instance", corpus.name);
            Err(Error::config("by", message))
        }
        (FoldUnit::Document, _) => folds_by_document(pairs, k()?, seed),
        (FoldUnit::Instance, _) => folds_by_instance(pairs, k()?, seed),
    }
}

/// Hold out fold `index`: a corpus with the splits `train` and `test`.
pub fn hold_out(corpus: &Corpus, index: i64, folds: i64, unit: FoldUnit, seed: u64) -> Result<Corpus> {
    let sentences: Vec<Sentence> = corpus.sentences().cloned().collect();
    let pairs = instances(&sentences, &corpus.task, Marking::Typed)?;
    let all = all_folds(corpus, &pairs, folds, unit, seed)?;
    let Some(fold) = all.iter().find(|fold| i64::try_from(fold.number) == Ok(index)) else {
        let numbers: Vec<String> = all.iter().map(|fold| fold.number.to_string()).collect();
        return Err(Error::config("index", format!("there is no fold {index}; choose from {}", numbers.join(", "))));
    };
    if unit == FoldUnit::Instance {
        let test: HashSet<&str> = fold.test.iter().map(|pair| pairs[*pair].id.as_str()).collect();
        return Ok(divide_pairs(corpus, &sentences, &test, &lost_in(corpus, &all, fold.number, seed)));
    }
    let fold_of = folds_of_documents(corpus, &pairs, &all, unit, seed);
    let (test, train): (Vec<_>, Vec<_>) = fold_of.into_iter().partition(|(_, number)| *number == fold.number);
    let names = |documents: Vec<(&str, usize)>| documents.into_iter().map(|(name, _)| name.to_owned()).collect();
    divide(corpus, &[("train".to_string(), names(train)), ("test".to_string(), names(test))])
}

/// The fold of every document. Documents without a candidate pair are assigned too, so that each
/// lost gold positive is a miss in exactly one fold: as the corpus states, or in turn, in an order
/// drawn with `seed`.
fn folds_of_documents<'a>(
    corpus: &'a Corpus,
    pairs: &'a [Instance],
    folds: &[Fold],
    unit: FoldUnit,
    seed: u64,
) -> BTreeMap<&'a str, usize> {
    let tested =
        folds.iter().flat_map(|fold| fold.test.iter().map(|pair| (pairs[*pair].document.as_str(), fold.number)));
    let mut fold_of: BTreeMap<&str, usize> = tested.collect();
    let given = corpus.folds.as_ref().filter(|_| unit == FoldUnit::Given);
    let mut rest = Vec::new();
    for document in documents(corpus) {
        let stated = given.and_then(|given| given.get(document)).copied();
        match stated.filter(|number| folds.iter().any(|fold| fold.number == *number)) {
            _ if fold_of.contains_key(document) => {}
            Some(number) => drop(fold_of.insert(document, number)),
            None => rest.push(document),
        }
    }
    // A separate stream, so that the folds of the other documents do not depend on these.
    Stream::new(seed, Purpose::Sample, 1).shuffle(&mut rest);
    fold_of.extend(rest.into_iter().zip(folds.iter().map(|fold| fold.number).cycle()));
    fold_of
}

/// The lost gold positives, by their position among the findings, that are misses of one fold by
/// instance: assigned in turn, in an order drawn with `seed`.
fn lost_in(corpus: &Corpus, folds: &[Fold], number: usize, seed: u64) -> HashSet<usize> {
    let findings = corpus.report.findings.iter().enumerate();
    let lost = findings.filter(|(_, finding)| finding.kind == FindingKind::Lost && finding.split.is_some());
    let mut lost: Vec<usize> = lost.map(|(position, _)| position).collect();
    Stream::new(seed, Purpose::Sample, 1).shuffle(&mut lost);
    let dealt = lost.into_iter().zip(folds.iter().map(|fold| fold.number).cycle());
    dealt.filter(|(_, fold)| *fold == number).map(|(position, _)| position).collect()
}

/// The pairs named in `test` in one split, all others in the other, and likewise the findings in
/// `lost`. A sentence may be in both.
fn divide_pairs(corpus: &Corpus, sentences: &[Sentence], test: &HashSet<&str>, lost: &HashSet<usize>) -> Corpus {
    let split = |name: &str, wanted: &dyn Fn(&Pair) -> bool| {
        let only = |sentence: &Sentence| {
            let pairs: Vec<Pair> = sentence.pairs.iter().filter(|pair| wanted(pair)).cloned().collect();
            (!pairs.is_empty()).then(|| Sentence { pairs, ..sentence.clone() })
        };
        Split { name: name.to_string(), sentences: sentences.iter().filter_map(only).collect() }
    };
    let tested = |pair: &Pair| test.contains(pair.id.as_str());
    let splits = vec![split("train", &|pair| !tested(pair)), split("test", &tested)];
    let mut divided = Corpus { splits, ..corpus.clone() };
    for (position, finding) in divided.report.findings.iter_mut().enumerate() {
        let counted = finding.kind == FindingKind::Lost && finding.split.is_some();
        let side = if lost.contains(&position) { "test" } else { "train" };
        finding.split = counted.then(|| side.to_owned());
    }
    divided
}
