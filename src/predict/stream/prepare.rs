//! From a document to its pairs as word pieces.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::parts::{Failure, Part, Position, Row, StreamSettings};
use crate::corpus::documents::{Document, Record};
use crate::corpus::{Candidates, ConceptPair, Finding, Scope, Sentence};
use crate::encode::{Features, mark_arguments, mark_concepts};
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

    /// Give the entities of a text the model's names of their types.
    fn rename(
        &self,
        sentence: &mut Sentence,
        mentions: &[usize],
        document: &Document,
        candidates: &Candidates,
        counts: &mut BTreeMap<String, usize>,
    ) {
        for (entity, &index) in sentence.entities.iter_mut().zip(mentions) {
            let entity_type = self.resolve(&document.mentions[index].entity_type);
            if !candidates.includes(entity_type) {
                let what =
                    format!("skipped: an entity of type {entity_type:?}, which the model does not know, forms no pair");
                *counts.entry(what).or_default() += 1;
            }
            entity_type.clone_into(&mut entity.entity_type);
        }
    }

    /// The model's name for a type: the given one, the same name, or the only one that differs in
    /// case alone.
    fn resolve<'b>(&self, entity_type: &'b str) -> &'b str
    where
        'a: 'b,
    {
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

/// The candidate pairs of a document.
struct DocumentPairs {
    /// Its sentences; at document scope its whole text.
    sentences: Vec<Sentence>,
    /// Each with the number of its sentence and its mentions there.
    pairs: Vec<(usize, (usize, usize), Row)>,
    /// At document scope, the concepts of each pair.
    concepts: Vec<ConceptPair>,
}

/// The pairs of a document as word pieces.
pub(super) fn prepare(document: Document, model: &RelationModel, settings: &StreamSettings) -> Result<Read> {
    let card = &model.card;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let fail = |message: String| {
        let Document { id, origin, .. } = &document;
        Error::Corpus {
            path: origin.path.clone(),
            line: (origin.line > 0).then_some(origin.line),
            message: format!("document {id}: {message}"),
        }
    };
    let (findings, formed) = match card.task.scope {
        Scope::Sentence => pairs_of_sentences(&document, model, settings, &mut counts),
        Scope::Document => pairs_of_concepts(&document, model, settings, &mut counts),
    };
    let mut count = |what: String| *counts.entry(what).or_default() += 1;
    for finding in document.findings.iter().chain(&findings) {
        count(format!("{}: {}", finding.kind.name(), finding.reason));
    }
    let DocumentPairs { sentences, pairs, concepts } = formed.map_err(fail)?;
    let (mut rows, mut features) = (Vec::with_capacity(pairs.len()), Vec::with_capacity(pairs.len()));
    let mut last = None;
    for (position, (number, arguments, row)) in pairs.into_iter().enumerate() {
        let sentence = &sentences[number];
        let mut encode = || {
            let instance = match concepts.get(position) {
                Some(concepts) => mark_concepts(sentence, arguments, concepts, "", &card.task, card.marking)?,
                None => mark_arguments(sentence, arguments, "", None, &card.task, card.marking)?,
            };
            model.tokenizer.features_with(&mut last, &instance, card.training.max_length, card.training.too_long)
        };
        let encoded = encode().map_err(|error| match error {
            // The error names the instance, which the user does not know; they can look up the
            // document.
            Error::Corpus { message, .. } => fail(message),
            error => error,
        })?;
        match &encoded {
            None => count("skipped: a pair whose entities do not fit into the model's length is not classified".into()),
            Some(features) if features.cut > 0 => count(match card.task.scope {
                Scope::Sentence => "repaired: a long sentence is cut to a window".into(),
                Scope::Document => "repaired: a long document is cut to a window".into(),
            }),
            Some(_) => {}
        }
        rows.push(row);
        features.push(encoded);
    }
    Ok(Read { document, rows, features, counts })
}

/// The pairs of mentions in a sentence, or why there are none.
fn pairs_of_sentences(
    document: &Document,
    model: &RelationModel,
    settings: &StreamSettings,
    counts: &mut BTreeMap<String, usize>,
) -> (Vec<Finding>, std::result::Result<DocumentPairs, String>) {
    let candidates = &model.card.task.candidates;
    let types = Types::new(model, &settings.types);
    let (mut sentences, findings) = document.sentences();
    let mut pairs = Vec::new();
    for (number, sentence) in sentences.iter_mut().enumerate() {
        types.rename(&mut sentence.sentence, &sentence.mentions, document, candidates, counts);
        if pairs.len() + candidates.count(&sentence.sentence) > settings.max_pairs {
            return (findings, Err(too_many(settings)));
        }
        pairs.extend(sentence.candidates(candidates).into_iter().map(|pair| {
            let mentions = [sentence.mentions[pair.0], sentence.mentions[pair.1]];
            let row = Row { document: 0, sentence: Some(number), mentions, concepts: None, probabilities: None };
            (number, pair, row)
        }));
    }
    let sentences = sentences.into_iter().map(|sentence| sentence.sentence).collect();
    (findings, Ok(DocumentPairs { sentences, pairs, concepts: Vec::new() }))
}

/// The pairs of concepts, or why there are none.
fn pairs_of_concepts(
    document: &Document,
    model: &RelationModel,
    settings: &StreamSettings,
    counts: &mut BTreeMap<String, usize>,
) -> (Vec<Finding>, std::result::Result<DocumentPairs, String>) {
    let task = &model.card.task;
    let types = Types::new(model, &settings.types);
    let (mut whole, findings) = document.whole_text();
    types.rename(&mut whole.sentence, &whole.mentions, document, &task.candidates, counts);
    for concept in &mut whole.concepts {
        concept.entity_type = types.resolve(&concept.entity_type).to_owned();
    }
    if whole.count(&task.candidates) > settings.max_pairs {
        return (findings, Err(too_many(settings)));
    }
    let (mut pairs, mut concepts) = (Vec::new(), Vec::new());
    for candidate in whole.candidates(&task.candidates, task.max_mentions) {
        let mentions = [candidate.mentions.0, candidate.mentions.1].map(|entity| whole.mentions[entity]);
        let names = Some(candidate.pair.names.clone());
        let row = Row { document: 0, sentence: None, mentions, concepts: names, probabilities: None };
        pairs.push((0, candidate.mentions, row));
        concepts.push(candidate.pair);
    }
    (findings, Ok(DocumentPairs { sentences: vec![whole.sentence], pairs, concepts }))
}

fn too_many(settings: &StreamSettings) -> String {
    format!("more than {} pairs; raise max_pairs to have them classified", settings.max_pairs)
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
        if let Some(dictionary) = &settings.dictionary {
            document = dictionary.annotate(&document)?;
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
