//! What both spellings of BioC share: from passages, annotations and relations to a [`Document`], and the parts of
//! relations that are added.
//!
//! Annotations stand in their passage or sentence, and their offsets count from the start of the document, as the
//! passage's own does. Concepts are read from the infon `identifier`, or from one that is named after a database. A relation
//! names annotations (`<node refid="T1"/>`) or, as BC5CDR and BioRED do, concepts in its infons.

use std::collections::{HashMap, HashSet};

use crate::corpus::documents::document::{Argument, Document, Mention, Passage, Predicted, Relation, concepts};
use crate::corpus::documents::offsets::{Converter, Unit, written};
use crate::corpus::{FindingKind, Span};
use crate::{Error, Result};

/// Infons of an annotation that hold a concept, in the order in which they are looked for.
const CONCEPT_KEYS: [&str; 12] = [
    "identifier",
    "Identifier",
    "concept_id",
    "normalized_id",
    "MESH",
    "MeSH",
    "NCBI_Gene",
    "NCBI GENE",
    "NCBI Gene",
    "OMIM",
    "ChEBI",
    "NCBI_Taxonomy",
];

/// Offsets beyond this are not of a document, and sums of them could overflow.
const OFFSET_LIMIT: usize = 1 << 40;

/// A document as BioC has it.
#[derive(Default)]
pub(super) struct Bioc {
    pub(super) id: String,
    pub(super) passages: Vec<BiocPassage>,
    pub(super) annotations: Vec<Annotation>,
    pub(super) relations: Vec<BiocRelation>,
}

/// A passage with text, or a sentence.
pub(super) struct BiocPassage {
    pub(super) kind: String,
    pub(super) offset: usize,
    pub(super) text: String,
    pub(super) sentence: bool,
    /// Its text is also that of its sentences, which count.
    pub(super) duplicate: bool,
}

pub(super) struct Annotation {
    pub(super) id: String,
    pub(super) infons: Vec<(String, String)>,
    /// Offset and length.
    pub(super) segments: Vec<(usize, usize)>,
    pub(super) text: Option<String>,
    /// The passage in which it stands.
    pub(super) passage: Option<usize>,
    /// Where it stands in the record, for messages.
    pub(super) at: usize,
}

pub(super) struct BiocRelation {
    pub(super) id: String,
    pub(super) infons: Vec<(String, String)>,
    pub(super) nodes: Vec<String>,
    pub(super) at: usize,
}

impl Bioc {
    /// The document; `fail` makes an error at a place of the record.
    pub(super) fn into_document(self, fail: impl Fn(usize, String) -> Error) -> Result<Document> {
        let mut document = Document { id: self.id.clone(), ..Document::default() };
        if let Some(passage) = self.passages.iter().find(|passage| passage.offset > OFFSET_LIMIT) {
            return Err(fail(0, format!("document {}: a passage at {} cannot be", self.id, passage.offset)));
        }
        let ascii = self.passages.iter().all(|passage| passage.text.is_ascii());
        let mut found = self.locate(Unit::Characters);
        let mut unit = Unit::Characters;
        if !ascii && found.iter().any(|place| matches!(place, Place::Wrong(_))) {
            for other in [Unit::Utf16, Unit::Bytes] {
                let all = self.locate(other);
                if !all.iter().any(|place| matches!(place, Place::Wrong(_))) {
                    (found, unit) = (all, other);
                    break;
                }
            }
        }
        if let Some(reason) = unit.reason() {
            document.note(FindingKind::Repaired, "offsets", reason);
        }
        // In characters a passage starts earlier by what its predecessors have more in the unit of the file.
        let starts = self.starts(unit);
        let mut place_of: Vec<usize> = Vec::new();
        for (passage, &start) in self.passages.iter().zip(&starts) {
            place_of.push(document.passages.len());
            if !passage.duplicate {
                let (kind, text) = (passage.kind.clone(), passage.text.clone());
                document.passages.push(Passage { kind, start, text, sentence: passage.sentence });
            }
        }
        let mut known: HashSet<String> = HashSet::new();
        for (annotation, place) in self.annotations.iter().zip(found) {
            let id = match annotation.id.is_empty() {
                true => format!("T{}", document.mentions.len() + 1),
                false => annotation.id.clone(),
            };
            let (passage, spans) = match place {
                Place::At(passage, spans) => (passage, spans),
                Place::Nowhere => {
                    document.note(FindingKind::Skipped, &id, "an annotation without a location");
                    continue;
                }
                Place::Wrong(message) => {
                    return Err(fail(annotation.at, format!("document {}: annotation {id} {message}", self.id)));
                }
            };
            if !known.insert(id.clone()) {
                document.note(FindingKind::Repaired, &id, "an identifier of two annotations; both are kept");
            }
            let start = starts[passage];
            let spans: Vec<Span> = spans.iter().map(|span| Span::new(span.start + start, span.end + start)).collect();
            let infon = |key: &str| annotation.infons.iter().find(|(known, _)| known == key).map(|(_, value)| value);
            let kind = infon("type").cloned().unwrap_or_default();
            let identifiers = CONCEPT_KEYS.iter().find_map(|key| infon(key)).map(|field| concepts(field));
            let bounds = Span::bounding(&spans);
            let home = match self.passages[passage].duplicate {
                false => Some(place_of[passage]),
                true => document.passages.iter().position(|passage| passage.slice(bounds).is_some()),
            };
            let slice = || spans.iter().filter_map(|&span| document.slice(span)).collect::<Vec<_>>().join(" ");
            let text = annotation.text.clone().filter(|text| !text.is_empty()).unwrap_or_else(slice);
            let identifiers = identifiers.unwrap_or_default();
            document.mentions.push(Mention { id, kind, text, identifiers, spans, passage: home });
        }
        for relation in &self.relations {
            self.relation(relation, &mut document).map_err(|message| fail(relation.at, message))?;
        }
        Ok(document)
    }

    /// Where each passage starts, in characters.
    fn starts(&self, unit: Unit) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.passages.len()).collect();
        order.sort_by_key(|&index| (self.passages[index].offset, index));
        let (mut starts, mut surplus) = (vec![0; self.passages.len()], 0);
        for index in order {
            let passage = &self.passages[index];
            starts[index] = passage.offset.saturating_sub(surplus);
            if !passage.duplicate {
                surplus += unit.length(&passage.text) - Unit::Characters.length(&passage.text);
            }
        }
        starts
    }

    fn locate(&self, unit: Unit) -> Vec<Place> {
        let converters: Vec<Converter> =
            self.passages.iter().map(|passage| Converter::new(&passage.text, unit)).collect();
        let place = |annotation: &Annotation| {
            if annotation.segments.is_empty() {
                return Place::Nowhere;
            }
            let text = annotation.text.as_deref().filter(|text| !text.is_empty());
            let within = |passage: usize| {
                let from = self.passages[passage].offset;
                let segment = |&(offset, length): &(usize, usize)| {
                    let start = offset.checked_sub(from)?;
                    Some((start, start.checked_add(length)?))
                };
                annotation.segments.iter().map(segment).collect::<Option<Vec<_>>>()
            };
            // Its own passage; where the passage only holds sentences, the sentence that fits.
            let homes: Vec<usize> = match annotation.passage {
                Some(passage) => vec![passage],
                None => (0..self.passages.len()).collect(),
            };
            for &home in &homes {
                if let Some(spans) = within(home).and_then(|segments| converters[home].fit(&segments, text)) {
                    return Place::At(home, spans);
                }
            }
            let segments: Vec<(usize, usize)> =
                annotation.segments.iter().map(|&(offset, length)| (offset, offset.saturating_add(length))).collect();
            let found = match homes.as_slice() {
                [home] => match within(*home) {
                    Some(segments) => converters[*home].found(&segments),
                    None => format!("which is before its passage, which starts at {}", self.passages[*home].offset),
                },
                _ => "which fits no passage".to_owned(),
            };
            let text = text.map(|text| format!(", but its text is `{text}`")).unwrap_or_default();
            Place::Wrong(format!("has offsets {}, {found}{text}", written(&segments)))
        };
        self.annotations.iter().map(place).collect()
    }

    /// Add a relation, or note why not.
    fn relation(&self, relation: &BiocRelation, document: &mut Document) -> std::result::Result<(), String> {
        let BiocRelation { id, infons, nodes, .. } = relation;
        let infon = |key: &str| infons.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone());
        let Some(kind) = infon("type").or_else(|| infon("relation")).or_else(|| infon("relation type")) else {
            return Err(format!("document {}: relation {id} has no infon `type`", self.id));
        };
        let arguments = if nodes.is_empty() {
            let known = |value: &String| {
                document.mentions.iter().any(|mention| concepts(value).iter().any(|c| mention.identifiers.contains(c)))
            };
            let named = [["entity1", "entity2"], ["Arg1", "Arg2"], ["role1", "role2"]];
            let named = named.iter().find_map(|[first, second]| Some([infon(first)?, infon(second)?]));
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
                document.note(FindingKind::Skipped, id, "a relation of more or fewer than two arguments");
                return Ok(());
            };
            let argument = |name: &String| {
                let mut named = document.mentions.iter().enumerate().filter(|(_, mention)| mention.id == *name);
                match (named.next(), named.next()) {
                    (Some((index, _)), None) => Ok(Argument::Mention(index)),
                    (None, _) if self.annotations.iter().any(|known| known.id == *name) => {
                        Ok(Argument::Concept(name.clone()))
                    }
                    // PubTator's relations name concepts here too.
                    (None, _) if document.mentions.iter().any(|mention| mention.identifiers.contains(name)) => {
                        Ok(Argument::Concept(name.clone()))
                    }
                    (None, _) => Err(format!("document {}: relation {id} names {name}, which is not there", self.id)),
                    (Some(_), Some(_)) => Err(format!(
                        "document {}: relation {id} names {name}, which is the identifier of two annotations",
                        self.id
                    )),
                }
            };
            [argument(first)?, argument(second)?]
        };
        document.relations.push(Relation { id: id.clone(), kind, arguments });
        Ok(())
    }
}

/// Where an annotation is.
enum Place {
    /// In a passage, at these characters of it.
    At(usize, Vec<Span>),
    /// The file does not say.
    Nowhere,
    /// Not where the file says.
    Wrong(String),
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

pub(super) fn infons_of(one: &Predicted) -> [(&'static str, String); 3] {
    [
        ("type", one.label.to_owned()),
        ("probability", format!("{:.4}", one.probability)),
        ("model", one.model.to_owned()),
    ]
}

/// Identifiers of relations that the document does not have yet.
pub(super) fn fresh_ids(document: &Document, prefix: &str) -> impl Iterator<Item = String> {
    let taken: Vec<String> = document.relations.iter().map(|relation| relation.id.clone()).collect();
    let prefix = prefix.to_owned();
    (1..).map(move |number| format!("{prefix}{number}")).filter(move |id| !taken.contains(id))
}

/// The identifiers by which BioC's relations name their mentions.
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

/// Keys and values.
pub(super) type Infons = Vec<(&'static str, String)>;
/// Identifiers of annotations, with their roles.
pub(super) type Nodes = Vec<(String, &'static str)>;

/// A relation's arguments, as infons for concepts and as nodes for mentions.
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
