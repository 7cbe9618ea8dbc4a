//! A document in memory: passages, mentions, and the relations stated in its file.

use std::collections::HashSet;
use std::path::PathBuf;

use super::inputs::DocumentFormat;
use crate::corpus::offsets::CharIndex;
use crate::corpus::{Finding, FindingKind, Span};
use crate::{Error, Result};

/// A part of a document's text: title, abstract, paragraph, or one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// `title`, `abstract`, ... as in the file; may be empty.
    pub passage_type: String,
    /// Offset of its first character in the document.
    pub start: usize,
    /// The text.
    pub text: String,
    /// Whether the file marks it as a single sentence.
    pub sentence: bool,
}

impl Passage {
    /// The text at a span of the document; `None` if the span is not inside this passage.
    pub(super) fn slice(&self, span: Span) -> Option<&str> {
        let start = span.start.checked_sub(self.start)?;
        let end = span.end.checked_sub(self.start)?;
        CharIndex::new(&self.text).slice(Span::new(start, end))
    }
}

/// A marked entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mention {
    /// Its identifier in the document: brat's and BioC's own; `T1`, `T2`, ... if the format
    /// has none.
    pub id: String,
    /// Its type, as in the file.
    pub entity_type: String,
    /// Its text.
    pub text: String,
    /// The database concepts that it refers to (`MESH:D001241`); several for a composite mention.
    pub identifiers: Vec<String>,
    /// Segments in characters of the document, sorted, end-exclusive.
    pub spans: Vec<Span>,
    /// The passage that contains all of it; `None` if no passage does.
    pub passage: Option<usize>,
}

impl Mention {
    /// From the first character of the first segment to the last character of the last one.
    pub fn bounding_span(&self) -> Span {
        Span::bounding(&self.spans)
    }
}

/// An argument of a relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument {
    /// A mention, by its index in [`Document::mentions`].
    Mention(usize),
    /// A concept, to which several mentions may refer.
    Concept(String),
}

/// A relation stated in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Its identifier in the document.
    pub id: String,
    /// Its type: the label.
    pub relation_type: String,
    /// First and second argument.
    pub arguments: [Argument; 2],
    /// What else the file states about it, in its order: name and value, such as BioRED's `novelty`
    /// (`Novel` or `No`).
    pub attributes: Vec<(String, String)>,
}

impl Relation {
    /// A relation without attributes.
    pub fn new(id: impl Into<String>, relation_type: impl Into<String>, arguments: [Argument; 2]) -> Self {
        Self { id: id.into(), relation_type: relation_type.into(), arguments, attributes: Vec::new() }
    }

    /// The value of an attribute, if the file states it.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Where a document was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The file, or a name for a document from memory.
    pub path: PathBuf,
    /// Its first line in the file, from 1; 0 if it is not from a file.
    pub line: usize,
    /// The format and the original text, so that the document can be written without loss.
    pub raw: Option<(DocumentFormat, String)>,
    /// The file before its first document: the fields of the collection.
    pub header: String,
}

/// A document with its mentions and relations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Document {
    /// Identifier.
    pub id: String,
    /// Its passages, in order.
    pub passages: Vec<Passage>,
    /// Its entities, in the file's order.
    pub mentions: Vec<Mention>,
    /// Relations between them.
    pub relations: Vec<Relation>,
    /// What was skipped or repaired.
    pub findings: Vec<Finding>,
    /// Where it was read.
    pub origin: Origin,
}

/// A predicted relation, to be added to a document.
#[derive(Debug, Clone, PartialEq)]
pub struct Predicted<'a> {
    /// Its label.
    pub label: &'a str,
    /// The two mentions, by index; of a relation of concepts, the nearest.
    pub mentions: [usize; 2],
    /// The two concepts, if the relation is one of concepts.
    pub concepts: Option<[&'a str; 2]>,
    /// The label's probability.
    pub probability: f32,
    /// Name and hash of the model.
    pub model: &'a str,
}

impl Document {
    /// A document that is not from a file. The mentions' texts and passages are derived from their
    /// spans. A single identifier that names several concepts is split, as in files.
    ///
    /// # Errors
    /// As [`Document::check`].
    pub fn new(id: String, passages: Vec<Passage>, mentions: Vec<Mention>, relations: Vec<Relation>) -> Result<Self> {
        let origin = Origin { path: "documents".into(), ..Origin::default() };
        let mut document = Self { id, passages, mentions, relations, findings: Vec::new(), origin };
        document.check()?;
        document.split_single_identifiers();
        let Self { passages, mentions, .. } = &mut document;
        let texts: Vec<_> = passages.iter().map(|passage| (passage.start, CharIndex::new(&passage.text))).collect();
        let slice = |(start, index): &(usize, CharIndex<'_>), span: Span| -> Option<String> {
            let moved = Span::new(span.start.checked_sub(*start)?, span.end.checked_sub(*start)?);
            index.slice(moved).map(str::to_owned)
        };
        for mention in mentions {
            let bounds = mention.bounding_span();
            mention.passage = texts.iter().position(|text| slice(text, bounds).is_some());
            let parts = mention.spans.iter().filter_map(|&span| texts.iter().find_map(|text| slice(text, span)));
            mention.text = parts.collect::<Vec<_>>().join(" ");
        }
        Ok(document)
    }

    /// The document with more entities, as type, concepts and characters. Those that it has are kept:
    /// a new one that overlaps one of them is left out, and counted in a finding. The original text
    /// of the file is not kept, since it lacks the new ones.
    ///
    /// # Errors
    /// [`Error::Corpus`] for characters outside of the text.
    pub fn with_entities(&self, entities: Vec<(String, Vec<String>, Span)>) -> Result<Self> {
        let origin = Origin { raw: None, header: String::new(), ..self.origin.clone() };
        let mut document = Self { origin, ..self.clone() };
        let mut names: HashSet<String> = self.mentions.iter().map(|mention| mention.id.clone()).collect();
        let taken: Vec<Span> = self.mentions.iter().map(Mention::bounding_span).collect();
        let (mut number, mut left_out) = (0, 0);
        for (entity_type, identifiers, span) in entities {
            if taken.iter().any(|other| other.overlaps(&span)) {
                left_out += 1;
                continue;
            }
            let id = loop {
                number += 1;
                let id = format!("T{number}");
                if names.insert(id.clone()) {
                    break id;
                }
            };
            let passage = self.passages.iter().position(|passage| passage.slice(span).is_some());
            let text = passage.and_then(|passage| self.passages[passage].slice(span)).unwrap_or_default().to_owned();
            document.mentions.push(Mention { id, entity_type, text, identifiers, spans: vec![span], passage });
        }
        document.check()?;
        if left_out > 0 {
            let reason = format!("{left_out} added entities that overlap an entity of the document are left out");
            document.note(FindingKind::Skipped, "entities", &reason);
        }
        Ok(document)
    }

    /// The text at a span; `None` if no passage contains it.
    pub fn slice(&self, span: Span) -> Option<&str> {
        self.passages.iter().find_map(|passage| passage.slice(span))
    }

    /// One past the last character.
    pub fn end(&self) -> usize {
        self.passages.iter().map(|passage| passage.start + passage.text.chars().count()).max().unwrap_or(0)
    }

    /// The whole text, with spaces between passages, so that offsets refer to it.
    pub fn text(&self) -> String {
        let (mut text, mut length) = (String::new(), 0_usize);
        for passage in &self.passages {
            let gap = passage.start.saturating_sub(length);
            text.extend(std::iter::repeat_n(' ', gap));
            text.push_str(&passage.text);
            length += gap + passage.text.chars().count();
        }
        text
    }

    /// Check the segments of mentions and the arguments of relations.
    ///
    /// # Errors
    /// [`Error::Corpus`], naming the document and the mention or relation.
    pub fn check(&self) -> Result<()> {
        let fail = |message: String| Err(Error::corpus(format!("document {}", self.id), message));
        for mention in &self.mentions {
            if mention.spans.is_empty() || mention.spans.iter().any(Span::is_empty) {
                return fail(format!("entity {} has no characters", mention.id));
            }
            if mention.spans.windows(2).any(|pair| pair[0].end > pair[1].start) {
                return fail(format!("entity {}: segments overlap or are not in order", mention.id));
            }
            let Span { start, end } = mention.bounding_span();
            if mention.passage.is_none() && end > self.end() {
                return fail(format!(
                    "entity {}: characters {start} to {end} are outside of the text ({} characters)",
                    mention.id,
                    self.end()
                ));
            }
        }
        for relation in &self.relations {
            for argument in &relation.arguments {
                if matches!(argument, Argument::Mention(index) if *index >= self.mentions.len()) {
                    return fail(format!("relation {} names an entity that does not exist", relation.id));
                }
            }
        }
        Ok(())
    }

    /// The concepts of a mention; if it has none, its position (`@12-19`).
    pub(super) fn concepts_of(&self, index: usize) -> Vec<String> {
        let mention = &self.mentions[index];
        let bounds = mention.bounding_span();
        match mention.identifiers.is_empty() {
            true => vec![format!("@{}-{}", bounds.start, bounds.end)],
            false => mention.identifiers.clone(),
        }
    }

    /// Add a finding.
    pub(super) fn note(&mut self, kind: FindingKind, id: &str, reason: &str) {
        self.findings.push(Finding::new(kind, format!("{}.{id}", self.id), reason));
    }
}
