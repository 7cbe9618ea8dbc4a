//! What both encodings of BioC share: converting passages, annotations and relations to a
//! [`Document`], and the fields of added relations.
//!
//! Annotations are listed in their passage or sentence. Their offsets, like those of passages,
//! count from the start of the document. Concepts are read from the infon `identifier`, or from one
//! that is named after a database. A relation names annotations (`<node refid="T1"/>`) or, in
//! BC5CDR and BioRED, concepts in its infons.

use std::collections::{HashMap, HashSet};

use super::bioc_locations::{Location, Locations, locate};
use super::bioc_record::{Annotation, Bioc, BiocRelation};
use crate::corpus::documents::concepts::split_fields;
use crate::corpus::documents::document::{Argument, Document, Mention, Passage, Predicted, Relation};
use crate::corpus::{FindingKind, Span};
use crate::{Error, Result};

/// Infons of a relation that may name its type, in the order in which they are tried.
const TYPE_KEYS: [&str; 3] = ["type", "relation", "relation type"];

/// Pairs of infons of a relation that may name its arguments.
const ARGUMENT_KEYS: [[&str; 2]; 3] = [["entity1", "entity2"], ["Arg1", "Arg2"], ["role1", "role2"]];

/// Larger offsets cannot be real, and sums of them could overflow.
const OFFSET_LIMIT: usize = 1 << 40;

impl Bioc {
    /// The document. `fail` builds an error at a byte offset of the record.
    pub(super) fn into_document(self, fail: impl Fn(usize, String) -> Error) -> Result<Document> {
        let mut document = Document { id: self.id.clone(), ..Document::default() };
        if let Some(passage) = self.passages.iter().find(|passage| passage.offset > OFFSET_LIMIT) {
            return Err(fail(0, format!("document {}: a passage cannot have the offset {}", self.id, passage.offset)));
        }
        let Locations { found, starts, reason } = locate(&self);
        if let Some(reason) = reason {
            document.note(FindingKind::Repaired, "offsets", reason);
        }
        let fields = self.annotations.iter().map(Annotation::concept_field).collect::<Vec<String>>();
        let named = self.relations.iter().flat_map(|relation| {
            relation.nodes.iter().chain(relation.infons.iter().map(|(_, value)| value)).map(String::as_str)
        });
        let concepts = split_fields(&fields, &named.collect::<Vec<_>>());
        let mut index_of: Vec<usize> = Vec::new();
        for (passage, &start) in self.passages.iter().zip(&starts) {
            index_of.push(document.passages.len());
            if !passage.duplicate {
                let (passage_type, text) = (passage.passage_type.clone(), passage.text.clone());
                document.passages.push(Passage { passage_type, start, text, sentence: passage.sentence });
            }
        }
        let mut known: HashSet<String> = HashSet::new();
        for ((annotation, location), identifiers) in self.annotations.iter().zip(found).zip(concepts) {
            let id = match annotation.id.is_empty() {
                true => format!("T{}", document.mentions.len() + 1),
                false => annotation.id.clone(),
            };
            let (passage, spans) = match location {
                Location::At(passage, spans, reason) => {
                    if let Some(reason) = reason {
                        document.note(FindingKind::Repaired, &id, reason);
                    }
                    (passage, spans)
                }
                Location::Missing => {
                    document.note(FindingKind::Skipped, &id, "an annotation without a location");
                    continue;
                }
                Location::Wrong(message) => {
                    return Err(fail(annotation.at, format!("document {}: annotation {id} {message}", self.id)));
                }
            };
            if !known.insert(id.clone()) {
                document.note(FindingKind::Repaired, &id, "an identifier of two annotations; both are kept");
            }
            let start = starts[passage];
            let spans: Vec<Span> = spans.iter().map(|span| Span::new(span.start + start, span.end + start)).collect();
            let entity_type = annotation.infon("type").unwrap_or_default().to_owned();
            let bounds = Span::bounding(&spans);
            let own_passage = match self.passages[passage].duplicate {
                false => Some(index_of[passage]),
                true => document.passages.iter().position(|passage| passage.slice(bounds).is_some()),
            };
            let slice = || spans.iter().filter_map(|&span| document.slice(span)).collect::<Vec<_>>().join(" ");
            let text = annotation.text.clone().filter(|text| !text.is_empty()).unwrap_or_else(slice);
            document.mentions.push(Mention { id, entity_type, text, identifiers, spans, passage: own_passage });
        }
        for relation in &self.relations {
            self.relation(relation, &mut document).map_err(|message| fail(relation.at, message))?;
        }
        Ok(document)
    }

    /// Add a relation, or a finding that says why not.
    fn relation(&self, relation: &BiocRelation, document: &mut Document) -> std::result::Result<(), String> {
        let BiocRelation { id, infons, nodes, .. } = relation;
        let infon = |key: &str| infons.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone());
        let Some(relation_type) = TYPE_KEYS.iter().find_map(|key| infon(key)) else {
            return Err(format!("document {}: relation {id} has no infon `type`", self.id));
        };
        let arguments = if nodes.is_empty() {
            let known = |value: &String| !document.mentions_of(value).is_empty();
            let named = ARGUMENT_KEYS.iter().find_map(|[first, second]| Some([infon(first)?, infon(second)?]));
            let others: Vec<&String> = infons.iter().map(|(_, value)| value).filter(|value| known(value)).collect();
            match (named, others.as_slice()) {
                (Some(named), _) => named.map(Argument::Concept),
                (None, [first, second]) => [first, second].map(|value| Argument::Concept((*value).clone())),
                _ => {
                    document.note(FindingKind::Skipped, id, "a relation that does not name two arguments");
                    return Ok(());
                }
            }
        } else {
            let [first, second] = nodes.as_slice() else {
                document.note(FindingKind::Skipped, id, "a relation with more or fewer than two arguments");
                return Ok(());
            };
            let argument = |name: &String| {
                let mut named = document.mentions.iter().enumerate().filter(|(_, mention)| mention.id == *name);
                match (named.next(), named.next()) {
                    (Some((index, _)), None) => Ok(Argument::Mention(index)),
                    (None, _) if self.annotations.iter().any(|known| known.id == *name) => {
                        Ok(Argument::Concept(name.clone()))
                    }
                    // In PubTator's export nodes may also name concepts.
                    (None, _) if !document.mentions_of(name).is_empty() => Ok(Argument::Concept(name.clone())),
                    (None, _) => Err(format!("document {}: relation {id} names {name}, which does not exist", self.id)),
                    (Some(_), Some(_)) => Err(format!(
                        "document {}: relation {id} names {name}, which is the identifier of two annotations",
                        self.id
                    )),
                }
            };
            [argument(first)?, argument(second)?]
        };
        let used = |key: &str, value: &str| {
            TYPE_KEYS.contains(&key)
                || ARGUMENT_KEYS.iter().flatten().any(|known| *known == key)
                || arguments.iter().any(|argument| matches!(argument, Argument::Concept(name) if name == value))
        };
        let attributes = infons.iter().filter(|(key, value)| !used(key, value)).map(|(key, value)| {
            let name = if key == "novel" { "novelty" } else { key };
            (name.to_owned(), value.clone())
        });
        let attributes = attributes.collect();
        document.relations.push(Relation { attributes, ..Relation::new(id, relation_type, arguments) });
        Ok(())
    }
}

pub(super) fn infons_of(one: &Predicted) -> [(&'static str, String); 3] {
    [
        ("type", one.label.to_owned()),
        ("probability", format!("{:.4}", one.probability)),
        ("model", one.model.to_owned()),
    ]
}

/// Identifiers for new relations, different from those of the document.
pub(super) fn fresh_ids(document: &Document, prefix: &str) -> impl Iterator<Item = String> {
    let taken: Vec<String> = document.relations.iter().map(|relation| relation.id.clone()).collect();
    let prefix = prefix.to_owned();
    (1..).map(move |number| format!("{prefix}{number}")).filter(move |id| !taken.contains(id))
}

/// The identifiers by which predicted relations name their mentions.
pub(super) fn named<'a>(document: &'a Document, predicted: &[Predicted]) -> Result<Vec<[&'a str; 2]>> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for mention in &document.mentions {
        *counts.entry(&mention.id).or_default() += 1;
    }
    let names = |one: &Predicted| -> Result<[&'a str; 2]> {
        let names = one.mentions.map(|index| document.mentions[index].id.as_str());
        match names.into_iter().find(|name| counts[name] > 1) {
            Some(name) => {
                let message = format!("two annotations have the identifier {name}: a relation cannot name one of them");
                Err(Error::corpus(format!("document {}", document.id), message))
            }
            None => Ok(names),
        }
    };
    predicted.iter().map(names).collect()
}

/// The attributes of a relation as infons; BioRED's name of the novelty is `novel`.
pub(super) fn attributes(relation: &Relation) -> impl Iterator<Item = (&str, String)> {
    relation.attributes.iter().map(|(name, value)| match name.as_str() {
        "novelty" => ("novel", value.clone()),
        name => (name, value.clone()),
    })
}

/// Keys and values.
pub(super) type Infons = Vec<(&'static str, String)>;
/// Identifiers of annotations with their roles.
pub(super) type Nodes = Vec<(String, &'static str)>;

/// The arguments of a relation: as infons if they are concepts, as nodes if they are mentions.
pub(super) fn arguments(document: &Document, arguments: &[Argument; 2]) -> (Infons, Nodes) {
    match arguments {
        [Argument::Mention(first), Argument::Mention(second)] => {
            let id = |index: &usize| document.mentions[*index].id.clone();
            (vec![], vec![(id(first), "Arg1"), (id(second), "Arg2")])
        }
        other => {
            let name = |argument: &Argument| match argument {
                Argument::Concept(name) => name.clone(),
                Argument::Mention(index) => document.concepts_of(*index).join(";"),
            };
            (vec![("entity1", name(&other[0])), ("entity2", name(&other[1]))], vec![])
        }
    }
}
