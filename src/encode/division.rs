//! New splits from whole documents, and folds held out.

use std::collections::{HashMap, HashSet};

use super::{Fold, Instance, Marking, folds_by_document, folds_by_instance, folds_given, instances};
use crate::corpus::{Corpus, FindingKind, Pair, Sentence, Split};
use crate::{Error, Result};

/// What stays together in a fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Documents: nothing of a test document is trained on.
    Document,
    /// The folds that the corpus itself states, by document too.
    Given,
    /// Single pairs, as some papers do: sentences stand on both sides.
    Instance,
}

impl std::str::FromStr for Unit {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "document" => Ok(Self::Document),
            "given" => Ok(Self::Given),
            "instance" => Ok(Self::Instance),
            _ => Err(Error::config("by", format!("`{name}` is unknown; choose one of document, given, instance"))),
        }
    }
}

/// Form the named splits, each from the documents that are listed for it.
pub fn divide(corpus: &Corpus, parts: &[(String, Vec<String>)]) -> Result<Corpus> {
    let known: HashSet<&str> = corpus.sentences().map(|sentence| sentence.document.as_str()).collect();
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
    // A finding names a pair or a sentence; its identifier starts with the document's where the corpus has such names.
    for finding in &mut divided.report.findings {
        let document = part_of.iter().find(|(document, _)| belongs(&finding.id, document));
        let part = document.map(|(_, part)| parts[*part].0.clone());
        if part.is_some() || finding.kind == FindingKind::Lost {
            finding.split = part;
        }
    }
    Ok(divided)
}

/// Whether an identifier such as `DDI-DrugBank.d5.s0.p1` or `10047461.T1.T2` is of that document.
fn belongs(id: &str, document: &str) -> bool {
    id.strip_prefix(document).is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric()))
}

/// The numbers of a corpus's folds: those that the corpus states, or `0..folds`.
pub fn fold_numbers(corpus: &Corpus, folds: i64, unit: Unit, seed: u64) -> Result<Vec<usize>> {
    let sentences: Vec<Sentence> = corpus.sentences().cloned().collect();
    let pairs = instances(&sentences, &corpus.task, Marking::Typed)?;
    Ok(all_folds(corpus, &pairs, folds, unit, seed)?.iter().map(|fold| fold.number).collect())
}

fn all_folds(corpus: &Corpus, pairs: &[Instance], folds: i64, unit: Unit, seed: u64) -> Result<Vec<Fold>> {
    let k = || {
        usize::try_from(folds)
            .map_err(|_| Error::config("folds", format!("{folds} is out of range; it must be at least 2")))
    };
    match (unit, &corpus.folds) {
        (Unit::Given, Some(given)) => {
            folds_given(pairs, &given.iter().map(|(document, fold)| (document.clone(), *fold)).collect())
        }
        (Unit::Given, None) => {
            let message = format!("{} states no folds; choose document or instance", corpus.name);
            Err(Error::config("by", message))
        }
        (Unit::Document, _) => folds_by_document(pairs, k()?, seed),
        (Unit::Instance, _) => folds_by_instance(pairs, k()?, seed),
    }
}

/// Hold fold `index` out: a corpus with the splits `train` and `test`.
pub fn hold_out(corpus: &Corpus, index: i64, folds: i64, unit: Unit, seed: u64) -> Result<Corpus> {
    let sentences: Vec<Sentence> = corpus.sentences().cloned().collect();
    let pairs = instances(&sentences, &corpus.task, Marking::Typed)?;
    let all = all_folds(corpus, &pairs, folds, unit, seed)?;
    let Some(fold) = all.iter().find(|fold| i64::try_from(fold.number) == Ok(index)) else {
        let numbers: Vec<String> = all.iter().map(|fold| fold.number.to_string()).collect();
        return Err(Error::config("index", format!("there is no fold {index}; choose from {}", numbers.join(", "))));
    };
    if unit == Unit::Instance {
        let test: HashSet<&str> = fold.test.iter().map(|pair| pairs[*pair].id.as_str()).collect();
        return Ok(divide_pairs(corpus, &sentences, &test));
    }
    let test: HashSet<&str> = fold.test.iter().map(|pair| pairs[*pair].document.as_str()).collect();
    let mut seen = HashSet::new();
    let documents = sentences.iter().map(|sentence| &sentence.document).filter(|document| seen.insert(*document));
    // A document without a pair is in no fold; it stays with the training part, where it changes nothing.
    let (test, train) = documents.cloned().partition(|document| test.contains(document.as_str()));
    divide(corpus, &[("train".to_string(), train), ("test".to_string(), test)])
}

/// The pairs named in `test` on one side, all others on the other; a sentence may stand on both.
fn divide_pairs(corpus: &Corpus, sentences: &[Sentence], test: &HashSet<&str>) -> Corpus {
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
    for finding in &mut divided.report.findings {
        finding.split = None;
    }
    divided
}
