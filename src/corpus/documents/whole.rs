//! From a document to its whole text with candidate pairs of concepts: document scope.
//!
//! * The text is that of all passages, with a space between two. A mention in several segments
//!   extends from its first to its last character.
//! * A candidate pair joins two concepts with different identifiers, whose types are candidates. The
//!   types decide which is the first argument; where both orders are allowed, it is the one that is
//!   mentioned first.
//! * A pair has some pairs of mentions, nearest first, by where they start. Each mention comes with
//!   the nearest one of the other concept, so that no mention is left out before it is as far away
//!   as the others.
//! * A relation labels the pair of its concepts. It is lost if a concept has no mention, if it
//!   relates a concept with itself, or if its types are not candidates.

use std::collections::{BTreeSet, HashMap};

use super::concepts::Concept;
use super::document::{Document, Relation};
use crate::corpus::{Candidates, ConceptPair, Entity, Finding, FindingKind, Pair, Sentence, Span, Task};
use crate::{Error, Result};

/// The whole text of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WholeText {
    /// All text as one sentence, with all mentions that are in a passage, and without pairs.
    pub sentence: Sentence,
    /// Index in [`Document::mentions`] of each entity.
    pub mentions: Vec<usize>,
    /// The concepts; their mentions are indices of entities.
    pub concepts: Vec<Concept>,
}

/// A candidate pair of concepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConceptCandidate {
    /// Indices in [`WholeText::concepts`].
    pub concepts: (usize, usize),
    /// The nearest two mentions, as indices of entities. They are the same for a composite mention
    /// of both concepts.
    pub mentions: (usize, usize),
    /// The identifiers, and further pairs of mentions.
    pub pair: ConceptPair,
}

impl Document {
    /// The whole text, and findings about mentions that are not in it or were repaired.
    pub fn whole_text(&self) -> (WholeText, Vec<Finding>) {
        let mut findings = Vec::new();
        let mut note =
            |kind, id: &str, reason: &str| findings.push(Finding::new(kind, format!("{}.{id}", self.id), reason));
        let (mut text, mut length, mut starts) = (String::new(), 0, Vec::new());
        for passage in &self.passages {
            if length > 0 {
                text.push(' ');
                length += 1;
            }
            starts.push(length);
            text.push_str(&passage.text);
            length += passage.text.chars().count();
        }
        let mut entities = Vec::new();
        let mut mentions = Vec::new();
        for index in self.in_text_order() {
            let mention = &self.mentions[index];
            let Some(passage) = mention.passage else {
                note(FindingKind::Skipped, &mention.id, "a mention that no passage contains completely forms no pair");
                continue;
            };
            if mention.spans.len() > 1 {
                let reason = "a mention in several segments extends from its first to its last character";
                note(FindingKind::Repaired, &mention.id, reason);
            }
            let (own, start) = (self.passages[passage].start, starts[passage]);
            let moved = mention.spans.iter().map(|span| Span::new(span.start - own + start, span.end - own + start));
            entities.push(Entity {
                id: mention.id.clone(),
                entity_type: mention.entity_type.clone(),
                text: mention.text.clone(),
                spans: moved.collect(),
            });
            mentions.push(index);
        }
        let entity_of: HashMap<usize, usize> = mentions.iter().enumerate().map(|(at, &index)| (index, at)).collect();
        let mut concepts = self.concepts();
        for concept in &mut concepts {
            concept.mentions = concept.mentions.iter().filter_map(|index| entity_of.get(index).copied()).collect();
        }
        concepts.retain(|concept| !concept.mentions.is_empty());
        let (id, document) = (self.id.clone(), self.id.clone());
        (WholeText { sentence: Sentence { id, document, text, entities, pairs: vec![] }, mentions, concepts }, findings)
    }
}

impl WholeText {
    /// The number of candidate pairs, which are not listed for it; at least as many as there are.
    pub fn count(&self, candidates: &Candidates) -> usize {
        candidates.count_of_types(self.concepts.iter().map(|concept| concept.entity_type.as_str()))
    }

    /// The candidate pairs, each with at most `max_mentions` pairs of mentions.
    pub fn candidates(&self, candidates: &Candidates, max_mentions: usize) -> Vec<ConceptCandidate> {
        let mut found = Vec::new();
        for (i, one) in self.concepts.iter().enumerate() {
            for (j, other) in self.concepts.iter().enumerate().skip(i + 1).filter(|(_, other)| other.name != one.name) {
                let (first, second) = match () {
                    () if candidates.allow(&one.entity_type, &other.entity_type) => (i, j),
                    () if candidates.allow(&other.entity_type, &one.entity_type) => (j, i),
                    () => continue,
                };
                let mut pairs = self.pairs_of_mentions(first, second, max_mentions);
                let mentions = pairs.remove(0);
                let names = [first, second].map(|concept| self.concepts[concept].name.clone());
                let pair = ConceptPair { names, further: pairs };
                found.push(ConceptCandidate { concepts: (first, second), mentions, pair });
            }
        }
        found
    }

    /// Pairs of mentions of two concepts, nearest first, at least one.
    fn pairs_of_mentions(&self, first: usize, second: usize, max_mentions: usize) -> Vec<(usize, usize)> {
        let start = |entity: usize| self.sentence.entities[entity].bounding_span().start;
        let [firsts, seconds] = [first, second].map(|concept| self.concepts[concept].mentions.as_slice());
        let distance = |one: usize, other: usize| start(one).abs_diff(start(other));
        // The mentions are in the order of the text.
        let nearest = |to: usize, among: &[usize]| {
            let after = among.partition_point(|&other| start(other) < start(to));
            let neighbours = among[after.saturating_sub(1)..].iter().take(2).copied();
            neighbours.min_by_key(|&other| distance(to, other)).unwrap_or(to)
        };
        let mut pairs: Vec<(usize, usize)> = firsts.iter().map(|&one| (one, nearest(one, seconds))).collect();
        pairs.extend(seconds.iter().map(|&other| (nearest(other, firsts), other)));
        pairs.sort_by_key(|&(one, other)| (distance(one, other), one, other));
        pairs.dedup();
        pairs.truncate(max_mentions.max(1));
        pairs
    }
}

/// A document with its whole text and, for each relation, the pairs of concepts that it names.
pub(super) struct WholePairs<'a> {
    pub document: &'a Document,
    whole: WholeText,
    findings: Vec<Finding>,
    gold: Vec<(&'a Relation, Named)>,
}

/// The concepts that a relation names.
enum Named {
    /// Pairs of different concepts.
    Pairs(Vec<(usize, usize)>),
    /// One concept, twice.
    Itself,
    /// A concept without a mention.
    Missing,
}

impl<'a> WholePairs<'a> {
    pub fn of(document: &'a Document) -> Self {
        let (whole, mut findings) = document.whole_text();
        findings.splice(0..0, document.findings.iter().cloned());
        let mut numbers: HashMap<&str, Vec<usize>> = HashMap::new();
        for (number, concept) in whole.concepts.iter().enumerate() {
            numbers.entry(&concept.name).or_default().push(number);
        }
        let named = |relation: &Relation| {
            let [first, second] = relation.arguments.each_ref().map(|argument| {
                let names = document.concepts_named(argument);
                names.iter().filter_map(|name| numbers.get(name.as_str())).flatten().copied().collect::<Vec<_>>()
            });
            if first.is_empty() || second.is_empty() {
                return Named::Missing;
            }
            let product = first.iter().flat_map(|&one| second.iter().map(move |&other| (one, other)));
            let different = |&(one, other): &(usize, usize)| whole.concepts[one].name != whole.concepts[other].name;
            match product.filter(different).collect::<Vec<_>>() {
                pairs if pairs.is_empty() => Named::Itself,
                pairs => Named::Pairs(pairs),
            }
        };
        let gold = document.relations.iter().map(|relation| (relation, named(relation))).collect();
        Self { document, whole, findings, gold }
    }

    /// The types of the concepts of each relation, in its order.
    pub fn types(&self) -> BTreeSet<(&str, &str)> {
        let of = |concept: usize| self.whole.concepts[concept].entity_type.as_str();
        let pairs = self.gold.iter().flat_map(|(_, named)| match named {
            Named::Pairs(pairs) => pairs.as_slice(),
            Named::Itself | Named::Missing => &[],
        });
        pairs.map(|&(first, second)| (of(first), of(second))).collect()
    }

    /// The text with its candidate pairs, labelled, and the findings.
    pub fn sentence(mut self, task: &Task, directed: bool) -> Result<(Sentence, Vec<Finding>)> {
        let candidates = self.whole.candidates(&task.candidates, task.max_mentions);
        let known: HashMap<(usize, usize), usize> =
            candidates.iter().enumerate().map(|(number, candidate)| (candidate.concepts, number)).collect();
        let mut labels: Vec<Vec<usize>> = vec![Vec::new(); candidates.len()];
        for (relation, named) in std::mem::take(&mut self.gold) {
            let label = self.document.label_of(relation, task)?;
            let id = format!("{}.{}", self.document.id, relation.id);
            let note = |kind, reason: &str| Finding::new(kind, id.as_str(), reason).labelled(label);
            let lost = if Some(label) == task.negative { FindingKind::Skipped } else { FindingKind::Lost };
            let pairs = match named {
                Named::Pairs(pairs) => pairs,
                Named::Itself => {
                    self.findings.push(note(lost, "a gold relation of a concept with itself"));
                    continue;
                }
                Named::Missing => {
                    self.findings.push(note(lost, "a gold relation of a concept without a mention"));
                    continue;
                }
            };
            let (mut formed, mut reversed, mut again) = (false, false, false);
            for (first, second) in pairs {
                let Some((&key, &number)) =
                    [(first, second), (second, first)].iter().find_map(|key| known.get_key_value(key))
                else {
                    continue;
                };
                formed = true;
                let [one, other] = [first, second].map(|concept| self.whole.concepts[concept].entity_type.as_str());
                reversed |= key != (first, second) && task.candidates.allow(one, other);
                match labels[number].contains(&label) {
                    true => again = true,
                    false => labels[number].push(label),
                }
            }
            let finding = match () {
                () if !formed => note(lost, "a gold relation between types that are not candidates"),
                () if again => note(FindingKind::Skipped, "the same gold relation is stated twice"),
                () if reversed && directed => {
                    note(FindingKind::Repaired, "both orders of its types are candidates: its direction is not kept")
                }
                () => continue,
            };
            self.findings.push(finding);
        }
        let mut sentence = self.whole.sentence;
        for (number, (candidate, labels)) in candidates.into_iter().zip(labels).enumerate() {
            let id = format!("{}.p{number}", sentence.id);
            let ConceptCandidate { mentions: (entity1, entity2), pair, .. } = candidate;
            let concepts = Some(pair);
            match labels.as_slice() {
                [] => {
                    let label = task.negative.unwrap_or_default();
                    sentence.pairs.push(Pair { id, entity1, entity2, label, row: None, concepts });
                }
                &[label] => sentence.pairs.push(Pair { id, entity1, entity2, label, row: None, concepts }),
                several => sentence.pairs.extend(several.iter().map(|&label| Pair {
                    id: format!("{id}.{}", task.labels[label]),
                    entity1,
                    entity2,
                    label,
                    row: None,
                    concepts: concepts.clone(),
                })),
            }
        }
        Ok((sentence, self.findings))
    }
}

impl Document {
    /// The label of a relation.
    ///
    /// # Errors
    /// [`Error::Corpus`] for a type that is not among the task's labels.
    pub(super) fn label_of(&self, relation: &Relation, task: &Task) -> Result<usize> {
        task.label(&relation.relation_type).ok_or_else(|| {
            let message = format!(
                "relation {}.{} has the type `{}`; the labels are {}",
                self.id,
                relation.id,
                relation.relation_type,
                task.labels.join(", ")
            );
            Error::corpus_line(&self.origin.path, self.origin.line, message)
        })
    }
}
