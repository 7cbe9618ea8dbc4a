//! Prodigy's JSON lines, as its recipe `rel.manual` exports them and spaCy's project `rel_component`
//! reads them.
//!
//! ```text
//! {"text": "...", "tokens": [{"text": "...", "start": 0, "end": 7, "id": 0, "ws": true}, ...],
//!  "spans": [{"start": 0, "end": 7, "token_start": 0, "token_end": 0, "label": "DRUG"}, ...],
//!  "relations": [{"head": 0, "child": 3, "label": "EFFECT", "head_span": {...}, "child_span": {...}}],
//!  "meta": {"source": "..."}, "_input_hash": 1, "answer": "accept"}
//! ```
//! The head is the first argument. Offsets count characters, ends are exclusive; they are checked
//! with the tokens, since spans have no text. A span that only a relation has becomes an entity too.
//! Only the annotations of accepted examples are used. A document is named after `id` or a key of
//! `meta` ([`NAMES`]), else after `_input_hash`, else after its line.

use serde_json::{Map, Value, json};

use super::super::document::{Argument, Document, Mention, Origin, Passage, Predicted, Relation};
use super::super::inputs::DocumentFormat;
use super::super::offsets::OffsetUnit;
use super::super::records::Record;
use super::flat::{Stated, place};
use super::json::{self, Parsed, list, offset, text};
use crate::corpus::{FindingKind, Span};
use crate::{Error, Result};

/// Keys that may name the document, at the top or in `meta`, in the order in which they are tried.
const NAMES: [&str; 5] = ["id", "document", "doc_id", "pmid", "source"];

/// First and last position, label.
type Place = (usize, usize, String);
/// Label, numbers of the spans of head and child.
type Labelled = (String, [usize; 2]);

pub(super) fn parse(record: Record) -> Result<Document> {
    let raw = Record::decode(record.raw.clone(), &record.path, record.line)?;
    let value = json::parse(&raw, &record)?;
    let fail = |message: String| Error::corpus_line(&*record.path, record.line, message);
    let stem = record.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut document = document(&value, &format!("{stem}:{}", record.line)).map_err(fail)?;
    let path = record.path.to_path_buf();
    document.origin =
        Origin { path, line: record.line, raw: Some((DocumentFormat::Prodigy, raw)), header: String::new() };
    Ok(document)
}

fn document(value: &Value, fallback: &str) -> Parsed<Document> {
    let content = value["text"].as_str().ok_or("is not an example of Prodigy: it has no string `text`")?;
    let named = NAMES.iter().find_map(|key| text(&value[*key]).or_else(|| text(&value["meta"][*key])));
    let id = named.or_else(|| text(&value["_input_hash"])).unwrap_or_else(|| fallback.to_owned());
    let within = |message: String| format!("document {id}: {message}");
    let mut document = Document { id: id.clone(), ..Document::default() };
    document.passages =
        vec![Passage { passage_type: String::new(), start: 0, text: content.to_owned(), sentence: false }];
    if let Some(answer) = value["answer"].as_str().filter(|answer| *answer != "accept") {
        let reason = format!("the answer is `{answer}`: the annotations of the document are not used");
        document.note(FindingKind::Skipped, "answer", &reason);
        return Ok(document);
    }
    let (spans, relations) = annotation(value).map_err(within)?;
    let places: Vec<Place> = spans.into_iter().filter_map(place_of).collect();
    // Tokens have a text, so that they show which unit the offsets count.
    let token = |(number, token): (usize, &Value)| {
        let (start, end) = (offset(&token["start"])?, offset(&token["end"])?);
        let text = Some(token["text"].as_str()?.to_owned());
        let (id, identifiers) = (format!("token {number}"), Vec::new());
        Some(Stated { id, entity_type: String::new(), segments: vec![(start, end)], text, identifiers })
    };
    // Tokens of white space alone do not help.
    let tokens = list(&value["tokens"]).iter().enumerate().filter_map(token);
    let tokens = tokens.filter(|token| token.text.as_ref().is_some_and(|text| !text.trim().is_empty()));
    let entity = |(number, (start, end, label)): (usize, &Place)| Stated {
        id: format!("T{}", number + 1),
        entity_type: label.clone(),
        segments: vec![(*start, *end)],
        text: None,
        identifiers: Vec::new(),
    };
    let mut stated: Vec<Stated> = places.iter().enumerate().map(entity).collect();
    let entities = stated.len();
    stated.extend(tokens);
    place(&mut document, stated, &OffsetUnit::ALL).map_err(|(_, message)| within(message))?;
    document.mentions.truncate(entities);
    for (number, (label, arguments)) in relations.into_iter().enumerate() {
        let arguments = arguments.map(Argument::Mention);
        document.relations.push(Relation::new(format!("R{}", number + 1), label, arguments));
    }
    Ok(document)
}

/// The spans of an example, those that only a relation has last, and its relations: label, head and
/// child. All spans have a place.
fn annotation(value: &Value) -> Parsed<(Vec<&Value>, Vec<Labelled>)> {
    let mut spans: Vec<&Value> = list(&value["spans"]).iter().collect();
    if let Some(number) = spans.iter().position(|span| place_of(span).is_none()) {
        return Err(format!("spans[{number}] has no `start` and `end`"));
    }
    let mut relations = Vec::new();
    for (number, relation) in list(&value["relations"]).iter().enumerate() {
        let mut argument = |key: &str| {
            let wrong = || format!("relations[{number}] has no `{key}` with `start` and `end`");
            let wanted = place_of(&relation[key]).ok_or_else(wrong)?;
            // The label may be missing there.
            let same = |span: &&Value| {
                place_of(span).is_some_and(|known| {
                    (known.0, known.1) == (wanted.0, wanted.1) && (wanted.2.is_empty() || known.2 == wanted.2)
                })
            };
            Parsed::Ok(match spans.iter().position(same) {
                Some(known) => known,
                None => {
                    spans.push(&relation[key]);
                    spans.len() - 1
                }
            })
        };
        let arguments = [argument("head_span")?, argument("child_span")?];
        let label = relation["label"].as_str().filter(|label| !label.is_empty());
        let label = label.ok_or_else(|| format!("relations[{number}] has no `label`"))?;
        relations.push((label.to_owned(), arguments));
    }
    Ok((spans, relations))
}

fn place_of(span: &Value) -> Option<Place> {
    let label = span["label"].as_str().unwrap_or_default().to_owned();
    Some((offset(&span["start"])?, offset(&span["end"])?, label))
}

/// An example with the relations added.
pub(super) fn write(document: &Document, predicted: &[Predicted], original: Option<&str>) -> Result<String> {
    if let (Some(raw), []) = (original, predicted) {
        return Ok(raw.trim_end().to_owned());
    }
    let relation = |label: &str, spans: &[Value], arguments: [usize; 2]| {
        let [head, child] = arguments.map(|index| &spans[index]);
        json!({
            "head": head["token_end"], "child": child["token_end"], "label": label, "head_span": head,
            "child_span": child
        })
    };
    let fail = |message: String| Error::corpus(format!("document {}", document.id), message);
    let (mut value, spans) = match original {
        Some(raw) => {
            let value = json::reparse(raw, &document.origin.path)?;
            let spans: Vec<Value> = annotation(&value).map_err(fail)?.0.into_iter().cloned().collect();
            (value, spans)
        }
        None => {
            let content = document.text();
            let tokens = tokens(&content, &document.mentions);
            let spans: Parsed<Vec<Value>> = document.mentions.iter().map(|mention| span(mention, &tokens)).collect();
            let spans = spans.map_err(fail)?;
            let written = |token: &Token| {
                let Token { start, end, text, id, space } = token;
                json!({"text": text, "start": start, "end": end, "id": id, "ws": space})
            };
            let mut relations = Vec::new();
            for one in &document.relations {
                let [Argument::Mention(first), Argument::Mention(second)] = one.arguments else {
                    return Err(fail("a relation between concepts, which Prodigy's format cannot represent".into()));
                };
                relations.push(relation(&one.relation_type, &spans, [first, second]));
            }
            let value = json!({
                "text": content, "meta": {"id": document.id}, "tokens": tokens.iter().map(written).collect::<Vec<_>>(),
                "spans": spans.clone(), "relations": relations, "answer": "accept"
            });
            (value, spans)
        }
    };
    let added = predicted.iter().map(|one| {
        let mut value = relation(one.label, &spans, one.mentions);
        value["probability"] = json!(one.probability);
        value["model"] = json!(one.model);
        value
    });
    let added: Vec<Value> = added.collect();
    if let Some(object) = value.as_object_mut() {
        add_to_list(object, "relations", added);
    }
    Ok(value.to_string())
}

/// Append to a list of an object, which may lack it.
pub(super) fn add_to_list(object: &mut Map<String, Value>, key: &str, added: Vec<Value>) {
    match object.get_mut(key) {
        Some(Value::Array(list)) => list.extend(added),
        _ => {
            object.insert(key.to_owned(), Value::Array(added));
        }
    }
}

struct Token {
    start: usize,
    end: usize,
    text: String,
    id: usize,
    /// Whether white space follows.
    space: bool,
}

/// Tokens: runs of letters and digits, and single other characters. They also end where a mention
/// starts or ends.
fn tokens(text: &str, mentions: &[Mention]) -> Vec<Token> {
    let edges: std::collections::HashSet<usize> =
        mentions.iter().flat_map(|mention| &mention.spans).flat_map(|span| [span.start, span.end]).collect();
    let mut tokens: Vec<Token> = Vec::new();
    let mut joins = false;
    for (at, character) in text.chars().enumerate() {
        if character.is_whitespace() {
            if let Some(last) = tokens.last_mut() {
                last.space |= last.end == at;
            }
            joins = false;
            continue;
        }
        match tokens.last_mut() {
            Some(last) if joins && character.is_alphanumeric() && !edges.contains(&at) => {
                last.text.push(character);
                last.end = at + 1;
            }
            _ => {
                let (id, text) = (tokens.len(), character.to_string());
                tokens.push(Token { start: at, end: at + 1, text, id, space: false });
            }
        }
        joins = character.is_alphanumeric();
    }
    tokens
}

/// The span of a mention, from its first to its last character.
fn span(mention: &Mention, tokens: &[Token]) -> Parsed<Value> {
    let Span { start, end } = mention.bounding_span();
    let first = tokens.iter().find(|token| token.end > start);
    let last = tokens.iter().rev().find(|token| token.start < end);
    let (Some(first), Some(last)) = (first, last) else {
        return Err(format!("entity {} has no token, which Prodigy's format cannot represent", mention.id));
    };
    Ok(json!({
        "start": start, "end": end, "token_start": first.id, "token_end": last.id, "label": mention.entity_type
    }))
}
