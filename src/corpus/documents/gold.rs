//! Documents as training data: their relations become the labels of candidate pairs.
//!
//! * A relation between two mentions labels that pair. A relation between two concepts (PubTator,
//!   BC5CDR) labels every pair of their mentions in the same sentence, as is usual for corpora that
//!   annotate whole documents; not all of these sentences need to state the relation.
//! * Candidate pairs have the two types of some relation, in its order, or types that the user
//!   names. If both orders of two types occur, a pair has the order of the text, and the direction
//!   of the relation is not kept; this is reported.
//! * A relation whose mentions never share a sentence is lost, and counts as a miss.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;

use super::document::{Argument, Document, Relation};
use super::sentences::DocumentSentence;
use super::whole::WholePairs;
use crate::corpus::{
    Candidates, Corpus, Finding, FindingKind, Pair, ReadOptions, Report, Scope, Sentence, Split, Task, table,
};
use crate::{Error, Result};

/// The label of pairs without a relation, if the data has none.
const NEGATIVE: &str = "none";

/// The task of a published corpus.
pub(in crate::corpus) struct Known {
    pub(super) task: Task,
    /// Whether its relations have a direction, which is lost where both orders of two types are
    /// candidates.
    pub(super) directed: bool,
}

/// A corpus from parsed documents, split by split. A known task decides labels and candidate pairs;
/// otherwise they come from the options and the data. If an attribute of the relations is the label,
/// the labels are its values.
pub(in crate::corpus) fn of_documents(
    mut splits: Vec<(String, Vec<Document>)>,
    options: &ReadOptions,
    name: &str,
    known: Option<Known>,
    path: &Path,
) -> Result<Corpus> {
    let mut report = Report::default();
    if let Some(attribute) = &options.attribute {
        for (split, documents) in &mut splits {
            let mut kept = Vec::new();
            for mut document in std::mem::take(documents) {
                match label_by(&mut document, attribute) {
                    Ok(()) => kept.push(document),
                    Err(error) if options.skip_errors => {
                        let finding = unreadable(&document.origin.path, &error);
                        report.findings.push(finding.of_document(&document.id).within(split));
                    }
                    Err(error) => return Err(error),
                }
            }
            *documents = kept;
        }
    }
    let documents = || splits.iter().flat_map(|(_, documents)| documents);
    let mut ids = HashSet::new();
    if let Some(again) = documents().find(|document| !ids.insert(document.id.as_str())) {
        return Err(duplicate(again));
    }
    let formed: Vec<Formed> = documents().map(|document| Formed::of(document, options.scope)).collect();
    let directed = known.as_ref().is_none_or(|known| known.directed);
    let mut task = match known {
        Some(known) => match &options.attribute {
            None => known.task,
            Some(attribute) => {
                let name = format!("{}-{attribute}", known.task.name);
                let Task { name, labels, negative, averaging, .. } = task(&splits, options, &name)?;
                Task { name, labels, negative, averaging, ..known.task }
            }
        },
        None => {
            if options.labels.is_none() && documents().all(|document| document.relations.is_empty()) {
                let message = "its documents have no relations, so there is nothing to learn from; for documents whose \
                               pairs are all unrelated name the labels";
                return Err(Error::corpus(path, message));
            }
            let task = task(&splits, options, name)?;
            let rule = |(first, second): &(String, String)| (vec![first.clone()], vec![second.clone()]);
            let given = options.pairs.as_ref().map(|pairs| Candidates { rules: pairs.iter().map(rule).collect() });
            Task { candidates: given.unwrap_or_else(|| rules(&formed)), ..task }
        }
    };
    task.scope = options.scope;
    match options.max_mentions {
        Some(0) => return Err(Error::config("max_mentions", "must be at least 1, not 0")),
        Some(_) if options.scope == Scope::Sentence => {
            return Err(Error::config(
                "max_mentions",
                "is for scope=\"document\"; a pair in a sentence has two mentions",
            ));
        }
        given => task.max_mentions = given.unwrap_or(task.max_mentions),
    };
    if task.candidates.rules.is_empty() {
        let message = match options.scope {
            Scope::Sentence => "no relation joins two mentions of one sentence: there is nothing to learn from",
            Scope::Document => "no relation joins two concepts that have mentions: there is nothing to learn from",
        };
        return Err(Error::corpus(path, message));
    }
    let mut read: Vec<Split> = Vec::new();
    let mut rest = formed.into_iter();
    for (split, documents) in &splits {
        let mut sentences = Vec::new();
        for formed in rest.by_ref().take(documents.len()) {
            let Document { id, origin, .. } = formed.document();
            match formed.sentences(&task, directed) {
                Ok((own, findings)) => {
                    sentences.extend(own);
                    report.findings.extend(findings.into_iter().map(|finding| finding.of_document(id).within(split)));
                }
                Err(error) if options.skip_errors => {
                    report.findings.push(unreadable(&origin.path, &error).of_document(id).within(split));
                }
                Err(error) => return Err(error),
            }
        }
        read.push(Split { name: split.clone(), sentences });
    }
    let known = ["train", "dev", "test"];
    read.sort_by_key(|split| known.iter().position(|name| *name == split.name).unwrap_or(known.len()));
    Ok(Corpus { name: task.name.clone(), task, splits: read, folds: None, report })
}

/// Put the value of an attribute in place of the type of every relation.
fn label_by(document: &mut Document, attribute: &str) -> Result<()> {
    let Document { id, relations, origin, .. } = document;
    for relation in relations {
        match relation.attribute(attribute) {
            Some(value) => relation.relation_type = value.to_owned(),
            None => {
                let have: Vec<&str> = relation.attributes.iter().map(|(name, _)| name.as_str()).collect();
                let have =
                    if have.is_empty() { "it has none".to_owned() } else { format!("it has {}", have.join(", ")) };
                let message = format!("document {id}: relation {} has no attribute `{attribute}`; {have}", relation.id);
                return Err(Error::corpus_line(&origin.path, origin.line, message));
            }
        }
    }
    Ok(())
}

pub(super) fn duplicate(document: &Document) -> Error {
    let message = format!("document {} appears twice", document.id);
    Error::corpus_line(&document.origin.path, document.origin.line, message)
}

/// The finding about a document that cannot be read: where it is, and why.
pub(super) fn unreadable(path: &Path, error: &Error) -> Finding {
    let (location, message) = match error {
        Error::Corpus { path, line, message } => {
            let line = line.map(|line| format!(":{line}")).unwrap_or_default();
            (format!("{}{line}", path.display()), message.clone())
        }
        other => (path.display().to_string(), other.to_string()),
    };
    Finding::new(FindingKind::Skipped, location, format!("a document that cannot be read: {message}"))
}

/// The labels: as given, or the negative label and then the types of the relations, sorted.
fn task(splits: &[(String, Vec<Document>)], options: &ReadOptions, name: &str) -> Result<Task> {
    let documents = splits.iter().flat_map(|(_, documents)| documents);
    let seen: BTreeSet<&str> =
        documents.flat_map(|document| &document.relations).map(|relation| relation.relation_type.as_str()).collect();
    let given = options.labels.clone();
    let mut labels = given.unwrap_or_else(|| seen.iter().map(|label| (*label).to_owned()).collect());
    let guessed: Vec<String> = labels.iter().filter(|label| table::means_none(label)).cloned().collect();
    let negative = match (&options.negative, guessed.as_slice()) {
        (Some(negative), _) => negative.clone(),
        // Values of an attribute, such as BioRED's `No`, say something about a relation.
        (None, [only]) if options.attribute.is_none() => only.clone(),
        (None, _) => NEGATIVE.to_owned(),
    };
    if options.labels.is_none() || !labels.contains(&negative) {
        labels.retain(|label| *label != negative);
        labels.insert(0, negative.clone());
    }
    Task::new(options.name.clone().unwrap_or_else(|| name.to_owned()), labels, Some(&negative))
}

/// A document with the pairs that its relations label.
enum Formed<'a> {
    Sentences(DocumentPairs<'a>),
    Whole(WholePairs<'a>),
}

impl<'a> Formed<'a> {
    fn of(document: &'a Document, scope: Scope) -> Self {
        match scope {
            Scope::Sentence => Self::Sentences(DocumentPairs::of(document)),
            Scope::Document => Self::Whole(WholePairs::of(document)),
        }
    }

    fn document(&self) -> &'a Document {
        match self {
            Self::Sentences(formed) => formed.document,
            Self::Whole(formed) => formed.document,
        }
    }

    /// The types of the arguments of its relations.
    fn types(&self) -> BTreeSet<(&str, &str)> {
        match self {
            Self::Sentences(formed) => {
                let pairs = formed.gold.iter().flat_map(|(_, pairs)| pairs);
                pairs.map(|&(first, second)| formed.types(first, second)).collect()
            }
            Self::Whole(formed) => formed.types(),
        }
    }

    /// Its sentences, of which a whole text is one, and the findings.
    fn sentences(self, task: &Task, directed: bool) -> Result<(Vec<Sentence>, Vec<Finding>)> {
        match self {
            Self::Sentences(formed) => formed.sentences(task, directed),
            Self::Whole(formed) => {
                formed.sentence(task, directed).map(|(sentence, findings)| (vec![sentence], findings))
            }
        }
    }
}

/// The pairs of entity types between which relations are stated.
fn rules(formed: &[Formed]) -> Candidates {
    let types: BTreeSet<(&str, &str)> = formed.iter().flat_map(Formed::types).collect();
    let rule = |(first, second): (&str, &str)| (vec![first.to_owned()], vec![second.to_owned()]);
    Candidates { rules: types.into_iter().map(rule).collect() }
}

/// A document with its sentences, and for each relation the pairs of its mentions that share a
/// sentence.
struct DocumentPairs<'a> {
    document: &'a Document,
    sentences: Vec<DocumentSentence>,
    findings: Vec<Finding>,
    /// The sentence of each mention that is in one.
    sentence_of: HashMap<usize, usize>,
    gold: Vec<(&'a Relation, Vec<(usize, usize)>)>,
}

impl<'a> DocumentPairs<'a> {
    fn of(document: &'a Document) -> Self {
        let (sentences, mut findings) = document.sentences();
        findings.splice(0..0, document.findings.iter().cloned());
        let homes =
            sentences.iter().enumerate().flat_map(|(at, one)| one.mentions.iter().map(move |&index| (index, at)));
        let sentence_of: HashMap<usize, usize> = homes.collect();
        let mut formed = Self { document, sentences, findings, sentence_of, gold: Vec::new() };
        formed.gold = document.relations.iter().map(|relation| (relation, formed.pairs(relation))).collect();
        formed
    }

    fn types(&self, first: usize, second: usize) -> (&'a str, &'a str) {
        (&self.document.mentions[first].entity_type, &self.document.mentions[second].entity_type)
    }

    fn mentions(&self, argument: &Argument) -> Vec<usize> {
        match argument {
            Argument::Mention(index) => vec![*index],
            Argument::Concept(name) => self.document.mentions_of(name),
        }
    }

    fn pairs(&self, relation: &Relation) -> Vec<(usize, usize)> {
        let [first, second] = relation.arguments.each_ref().map(|argument| self.mentions(argument));
        let product = first.iter().flat_map(|&first| second.iter().map(move |&second| (first, second)));
        let together = |&(first, second): &(usize, usize)| {
            first != second
                && self.sentence_of.contains_key(&first)
                && self.sentence_of.get(&first) == self.sentence_of.get(&second)
        };
        product.filter(together).collect()
    }

    /// The sentences with their candidate pairs, and the findings.
    fn sentences(mut self, task: &Task, directed: bool) -> Result<(Vec<Sentence>, Vec<Finding>)> {
        let candidates: Vec<Vec<(usize, usize)>> =
            self.sentences.iter().map(|sentence| sentence.candidates(&task.candidates)).collect();
        let mut known: HashSet<(usize, usize)> = HashSet::new();
        for (sentence, pairs) in self.sentences.iter().zip(&candidates) {
            known.extend(pairs.iter().map(|&(a, b)| (sentence.mentions[a], sentence.mentions[b])));
        }
        let mut labels: HashMap<(usize, usize), Vec<(usize, &Relation)>> = HashMap::new();
        for (relation, pairs) in std::mem::take(&mut self.gold) {
            let id = format!("{}.{}", self.document.id, relation.id);
            let label = self.document.label_of(relation, task)?;
            let note = |kind, reason: &str| Finding::new(kind, id.as_str(), reason).labelled(label);
            let negative = Some(label) == task.negative;
            let lost = if negative { FindingKind::Skipped } else { FindingKind::Lost };
            if pairs.is_empty() {
                let [first, second] = relation.arguments.each_ref().map(|argument| self.mentions(argument));
                let reason = if first.is_empty() || second.is_empty() {
                    "a gold relation of a concept without a mention"
                } else if first.iter().any(|mention| second.contains(mention)) {
                    "a gold relation of two concepts that share a mention, and no other sentence"
                } else {
                    "a gold relation without two mentions in one sentence"
                };
                self.findings.push(note(lost, reason));
                continue;
            }
            let (mut formed, mut reversed, mut before, mut same) = (0, false, None, false);
            for (first, second) in pairs {
                let key = [(first, second), (second, first)].into_iter().find(|key| known.contains(key));
                let (one, other) = self.types(first, second);
                let Some(key) = key else {
                    same |= task.candidates.allow(one, other) || task.candidates.allow(other, one);
                    continue;
                };
                formed += 1;
                reversed |= key != (first, second) && task.candidates.allow(one, other);
                let own = labels.entry(key).or_default();
                match own.iter().find(|(known, _)| *known == label) {
                    Some((_, other)) => before = before.or(Some(*other)),
                    None => own.push((label, relation)),
                }
            }
            match formed {
                // If its types are candidates, only a mention that is listed twice forms no pair.
                0 if same => self.findings.push(note(lost, "a gold relation of a mention with itself, listed twice")),
                0 => self.findings.push(note(lost, "a gold relation between types that are not candidates")),
                _ if let Some(other) = before => {
                    let (kind, reason) = match same_arguments(other, relation) {
                        true => (FindingKind::Skipped, "the same gold relation is stated twice"),
                        false => (FindingKind::Repaired, SHARED),
                    };
                    self.findings.push(note(kind, reason));
                }
                _ if reversed && directed => {
                    let reason = "both orders of its types are candidates: its direction is not kept";
                    self.findings.push(note(FindingKind::Repaired, reason));
                }
                _ => {}
            }
        }
        let mut sentences = Vec::new();
        for (one, candidates) in self.sentences.into_iter().zip(candidates) {
            let mut sentence = one.sentence;
            for (number, (entity1, entity2)) in candidates.into_iter().enumerate() {
                let id = format!("{}.p{number}", sentence.id);
                let key = (one.mentions[entity1], one.mentions[entity2]);
                match labels.get(&key).map(Vec::as_slice) {
                    None | Some([]) => {
                        let label = task.negative.unwrap_or_default();
                        sentence.pairs.push(Pair { id, entity1, entity2, label, row: None, concepts: None });
                    }
                    Some(&[(label, _)]) => {
                        sentence.pairs.push(Pair { id, entity1, entity2, label, row: None, concepts: None })
                    }
                    Some(several) => sentence.pairs.extend(several.iter().map(|&(label, _)| Pair {
                        id: format!("{id}.{}", task.labels[label]),
                        entity1,
                        entity2,
                        label,
                        row: None,
                        concepts: None,
                    })),
                }
            }
            sentences.push(sentence);
        }
        Ok((sentences, self.findings))
    }
}

/// The finding about a relation whose pair already has its label by another relation: the two
/// relations name different concepts of one composite mention.
const SHARED: &str =
    "one of its mentions refers to several concepts: another relation gives the same label to a pair of it";

/// Whether two relations have the same arguments, in any order.
fn same_arguments(one: &Relation, other: &Relation) -> bool {
    let [first, second] = &other.arguments;
    one.arguments == [first.clone(), second.clone()] || one.arguments == [second.clone(), first.clone()]
}
