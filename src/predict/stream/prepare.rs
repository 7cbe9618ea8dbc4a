//! From a document to its pairs as word pieces.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::parts::{Failure, Part, Position, Row, StreamSettings};
use crate::corpus::documents::{Document, Record};
use crate::encode::{Features, mark_arguments};
use crate::model::RelationModel;
use crate::predict::Prediction;
use crate::{Error, Result};

/// A part to be classified.
pub(super) struct Prepared {
    pub part: Part,
    /// Word pieces of the rows that fit into the model's length; `fits[i]` is the row of
    /// `features[i]`.
    pub features: Vec<Features>,
    fits: Vec<usize>,
}

/// The pairs of one document, to be classified.
pub(super) struct Read {
    document: Document,
    pub rows: Vec<Row>,
    features: Vec<Option<Features>>,
    counts: BTreeMap<String, usize>,
}

/// The files' entity types and the model's names for them.
struct Types<'a> {
    given: &'a BTreeMap<String, String>,
    known: BTreeSet<&'a str>,
}

impl<'a> Types<'a> {
    fn new(model: &'a RelationModel, given: &'a BTreeMap<String, String>) -> Self {
        let rules = &model.card.task.candidates.rules;
        let known = rules.iter().flat_map(|(first, second)| first.iter().chain(second)).map(String::as_str).collect();
        Self { given, known }
    }

    /// The model's name for a type: the given one, the same name, or the only one that differs in
    /// case alone.
    fn resolve(&self, entity_type: &'a str) -> &'a str {
        if let Some(given) = self.given.get(entity_type) {
            return given;
        }
        if self.known.contains(entity_type) {
            return entity_type;
        }
        let mut alike = self.known.iter().filter(|known| known.eq_ignore_ascii_case(entity_type));
        match (alike.next(), alike.next()) {
            (Some(only), None) => only,
            _ => entity_type,
        }
    }
}

/// The pairs of a document as word pieces.
pub(super) fn prepare(document: Document, model: &RelationModel, settings: &StreamSettings) -> Result<Read> {
    let card = &model.card;
    let types = Types::new(model, &settings.types);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut count = |what: String| *counts.entry(what).or_default() += 1;
    let (mut sentences, findings) = document.sentences();
    for finding in document.findings.iter().chain(&findings) {
        count(format!("{}: {}", finding.kind.name(), finding.reason));
    }
    let fail = |message: String| {
        let Document { id, origin, .. } = &document;
        Error::Corpus {
            path: origin.path.clone(),
            line: (origin.line > 0).then_some(origin.line),
            message: format!("document {id}: {message}"),
        }
    };
    let mut pairs = Vec::new();
    for (number, sentence) in sentences.iter_mut().enumerate() {
        for (entity, &index) in sentence.sentence.entities.iter_mut().zip(&sentence.mentions) {
            let entity_type = types.resolve(&document.mentions[index].entity_type);
            if !card.task.candidates.includes(entity_type) {
                count(format!(
                    "skipped: an entity of type {entity_type:?}, which the model does not know, forms no pair"
                ));
            }
            entity_type.clone_into(&mut entity.entity_type);
        }
        if pairs.len() + card.task.candidates.count(&sentence.sentence) > settings.max_pairs {
            let message = format!("more than {} pairs; raise max_pairs to have them classified", settings.max_pairs);
            return Err(fail(message));
        }
        pairs.extend(sentence.candidates(&card.task.candidates).into_iter().map(|pair| (number, pair)));
    }
    let (mut rows, mut features) = (Vec::with_capacity(pairs.len()), Vec::with_capacity(pairs.len()));
    for (number, arguments) in pairs {
        let sentence = &sentences[number];
        let encode = || {
            let instance = mark_arguments(&sentence.sentence, arguments, "", None, &card.task, card.marking)?;
            model.tokenizer.features(&instance, card.training.max_length, card.training.too_long)
        };
        let encoded = encode().map_err(|error| match error {
            // The error names the instance, which the user does not know; they can look up the
            // document.
            Error::Corpus { message, .. } => fail(message),
            error => error,
        })?;
        match &encoded {
            None => count("skipped: a pair whose entities do not fit into the model's length is not classified".into()),
            Some(features) if features.cut > 0 => count("repaired: a long sentence is cut to a window".into()),
            Some(_) => {}
        }
        let mentions = [sentence.mentions[arguments.0], sentence.mentions[arguments.1]];
        rows.push(Row { document: 0, sentence: number, mentions, probabilities: None });
        features.push(encoded);
    }
    Ok(Read { document, rows, features, counts })
}

/// Parse a record and prepare its document.
pub(super) fn parse(
    record: Record,
    model: &RelationModel,
    settings: &StreamSettings,
) -> std::result::Result<Read, Failure> {
    let mut name = None;
    let read = Document::parse(record).and_then(|mut document| {
        if !settings.keep_raw {
            document.origin.raw = None;
        }
        name = Some(document.id.clone());
        prepare(document, model, settings)
    });
    read.map_err(|error| Failure { document: name, ..failure(error) })
}

pub(super) fn failure(error: Error) -> Failure {
    match error {
        Error::Corpus { path, line, message } => Failure { path, line, document: None, reason: message },
        Error::Io { path, source } => Failure { path, line: None, document: None, reason: source.to_string() },
        error => Failure { path: PathBuf::new(), line: None, document: None, reason: error.to_string() },
    }
}

impl Prepared {
    pub fn empty(next: Position) -> Self {
        Self { part: Part { next, ..Part::default() }, features: Vec::new(), fits: Vec::new() }
    }

    pub fn documents(&self) -> usize {
        self.part.documents.len() + self.part.failures.len()
    }

    pub fn add(&mut self, read: std::result::Result<Read, Failure>) {
        match read {
            Err(failure) => self.part.failures.push(failure),
            Ok(Read { document, rows, features, counts }) => {
                let number = self.part.documents.len();
                for (row, features) in rows.into_iter().zip(features) {
                    if let Some(features) = features {
                        self.fits.push(self.part.rows.len());
                        self.features.push(features);
                    }
                    self.part.rows.push(Row { document: number, ..row });
                }
                self.part.documents.push(document);
                for (what, count) in counts {
                    *self.part.counts.entry(what).or_default() += count;
                }
            }
        }
    }

    pub fn finish(self, predictions: Vec<Prediction>) -> Part {
        let mut part = self.part;
        for (row, prediction) in self.fits.into_iter().zip(predictions) {
            part.rows[row].probabilities = Some(prediction.probabilities);
        }
        part
    }
}
