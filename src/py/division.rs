//! New splits from whole documents, and folds held out.

use std::collections::{HashMap, HashSet};
use std::str::FromStr;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::columns::Columns;
use super::corpus::PyCorpus;
use super::gate::detached;
use crate::corpus::{Corpus, FindingKind, Sentence, Split};
use crate::encode::{Fold, Leakage, Marking, folds_by_document, folds_by_instance, folds_given, instances};
use crate::{Error, Result};

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

/// Hold fold `index` out: the published folds where the corpus states them, else `folds` folds of shuffled documents.
pub fn hold_out(corpus: &Corpus, index: i64, folds: i64, seed: u64) -> Result<Corpus> {
    let sentences: Vec<Sentence> = corpus.sentences().cloned().collect();
    let pairs = instances(&sentences, &corpus.task, Marking::Typed)?;
    let all: Vec<Fold> = match &corpus.folds {
        Some(given) => folds_given(&pairs, &given.iter().map(|(document, fold)| (document.clone(), *fold)).collect())?,
        None => {
            let k = usize::try_from(folds)
                .map_err(|_| Error::config("folds", format!("{folds} is out of range; it must be at least 2")))?;
            folds_by_document(&pairs, k, seed)?
        }
    };
    let Some(fold) = all.iter().find(|fold| i64::try_from(fold.number) == Ok(index)) else {
        let numbers: Vec<String> = all.iter().map(|fold| fold.number.to_string()).collect();
        return Err(Error::config("index", format!("there is no fold {index}; choose from {}", numbers.join(", "))));
    };
    let test: HashSet<&str> = fold.test.iter().map(|pair| pairs[*pair].document.as_str()).collect();
    let mut seen = HashSet::new();
    let documents = sentences.iter().map(|sentence| &sentence.document).filter(|document| seen.insert(*document));
    // A document without a pair is in no fold; it stays with the training part, where it changes nothing.
    let (test, train) = documents.cloned().partition(|document| test.contains(document.as_str()));
    divide(corpus, &[("train".to_string(), train), ("test".to_string(), test)])
}

/// What a fold keeps together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Document,
    Instance,
    Given,
}

impl FromStr for By {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "document" => Ok(Self::Document),
            "instance" => Ok(Self::Instance),
            "given" => Ok(Self::Given),
            _ => Err(Error::config("by", format!("`{name}` is not one of document, instance, given"))),
        }
    }
}

fn documents(split: &Split) -> HashSet<String> {
    split.sentences.iter().map(|sentence| sentence.document.clone()).collect()
}

/// All folds of a cross-validation over all splits of a corpus together.
#[pyclass(frozen, name = "Folds", module = "biorel._biorel")]
pub struct PyFolds {
    corpus: Arc<Corpus>,
    folds: Vec<Fold>,
}

impl PyFolds {
    pub fn of(corpus: Arc<Corpus>, by: By, folds: i64, seed: u64) -> Result<Self> {
        let sentences: Vec<Sentence> = corpus.sentences().cloned().collect();
        let pairs = instances(&sentences, &corpus.task, Marking::Typed)?;
        let k = || {
            let message = format!("{folds} is out of range; it must be at least 2");
            usize::try_from(folds).map_err(|_| Error::config("folds", message))
        };
        let folds = match (by, &corpus.folds) {
            (By::Document, _) => folds_by_document(&pairs, k()?, seed)?,
            (By::Instance, _) => folds_by_instance(&pairs, k()?, seed)?,
            (By::Given, Some(given)) => {
                folds_given(&pairs, &given.iter().map(|(document, fold)| (document.clone(), *fold)).collect())?
            }
            (By::Given, None) => {
                let message = format!("{} states no folds; choose document or instance", corpus.name);
                return Err(Error::config("by", message));
            }
        };
        Ok(Self { corpus, folds })
    }

    fn fold(&self, number: usize) -> Result<&Fold> {
        let missing = || Error::config("fold", format!("there is no fold {number}"));
        self.folds.iter().find(|fold| fold.number == number).ok_or_else(missing)
    }

    /// The corpus as `train` and `test`: every sentence with its pairs of that side, and left out of a side on which it
    /// has none. What had been lost while reading is of the test side where its whole document is, else of no side.
    fn divided(&self, number: usize) -> Result<Corpus> {
        let test: HashSet<usize> = self.fold(number)?.test.iter().copied().collect();
        let mut sides = [Vec::new(), Vec::new()];
        // Instances are numbered as `instances` forms them: by sentence, then by pair.
        let mut index = 0;
        for sentence in self.corpus.sentences() {
            let mut parts = [Vec::new(), Vec::new()];
            for pair in &sentence.pairs {
                parts[usize::from(test.contains(&index))].push(pair.clone());
                index += 1;
            }
            for (side, pairs) in sides.iter_mut().zip(parts) {
                if !pairs.is_empty() {
                    side.push(Sentence { pairs, ..sentence.clone() });
                }
            }
        }
        let [train, test] = sides;
        let split = |name: &str, sentences| Split { name: name.into(), sentences };
        let mut corpus = Corpus { splits: vec![split("train", train), split("test", test)], ..(*self.corpus).clone() };
        let [train, test] = ["train", "test"].map(|name| corpus.split(name).map(documents));
        let (train, test) = (train?, test?);
        let only_tested: Vec<&String> = test.difference(&train).collect();
        for finding in &mut corpus.report.findings {
            let tested = only_tested.iter().any(|document| belongs(&finding.id, document));
            finding.split = tested.then(|| "test".into());
        }
        Ok(corpus)
    }
}

#[pymethods]
impl PyFolds {
    /// One number for each fold.
    #[getter]
    fn numbers(&self) -> Vec<usize> {
        self.folds.iter().map(|fold| fold.number).collect()
    }

    /// The corpus with the splits `train` and `test`.
    fn corpus(&self, py: Python<'_>, number: usize) -> PyResult<PyCorpus> {
        detached(py, || self.divided(number)).map(|corpus| PyCorpus(Arc::new(corpus)))
    }

    /// What the two sides of a fold share: one row for each document, pair of equal sentences, and pair of similar ones.
    fn leaks<'py>(&self, py: Python<'py>, number: usize, threshold: f64) -> PyResult<Bound<'py, PyDict>> {
        let leakage = detached(py, || {
            let corpus = self.divided(number)?;
            let side = |name: &str| corpus.split(name).map(|split| split.sentences.iter().collect::<Vec<_>>());
            Leakage::between(&side("train")?, &side("test")?, threshold)
        })?;
        let documents = leakage.documents.iter().map(|document| ("document", document, document, 1.0));
        let sentences = leakage.sentences.iter().map(|(train, test)| ("sentence", train, test, 1.0));
        let near =
            leakage.near_duplicates.iter().map(|near| ("near-duplicate", &near.train, &near.test, near.similarity));
        let rows: Vec<_> = documents.chain(sentences).chain(near).collect();
        let columns = Columns::new(py)
            .text("kind", rows.iter().map(|row| row.0))?
            .text("train", rows.iter().map(|row| row.1.as_str()))?
            .text("test", rows.iter().map(|row| row.2.as_str()))?
            .floats("similarity", rows.iter().map(|row| row.3))?;
        Ok(columns.finish())
    }
}
