//! BigBio's `kb` schema in JSON: one document per line, or a list of documents.
//!
//! ```text
//! {"id": "0", "document_id": "1000001",
//!  "passages": [{"id": "1", "type": "title", "text": ["..."], "offsets": [[0, 20]]}, ...],
//!  "entities": [{"id": "2", "type": "Chemical", "text": ["aspirin"], "offsets": [[0, 7]],
//!                "normalized": [{"db_name": "MESH", "db_id": "D001241"}]}, ...],
//!  "events": [], "coreferences": [],
//!  "relations": [{"id": "3", "type": "CID", "arg1_id": "2", "arg2_id": "4", "normalized": []}]}
//! ```
//! Offsets count characters of the document, ends are exclusive; an entity has a text per segment.
//! Events and coreferences are reported as skipped.

use serde_json::{Map, Value, json};

use super::super::document::{Argument, Document, Mention, Origin, Passage, Predicted, Relation};
use super::super::inputs::DocumentFormat;
use super::super::offsets::OffsetUnit;
use super::super::records::Record;
use super::bioc::fresh_ids;
use super::flat::{Stated, place};
use super::json::{self, Parsed, list, offset, text};
use super::prodigy::add_to_list;
use crate::corpus::FindingKind;
use crate::{Error, Result};

pub(super) fn parse(record: Record) -> Result<Document> {
    let raw = Record::decode(record.raw.clone(), &record.path, record.line)?;
    let value = json::parse(&raw, &record)?;
    let fail = |message: String| Error::corpus_line(&*record.path, record.line, message);
    let mut document = document(&value).map_err(fail)?;
    let path = record.path.to_path_buf();
    document.origin =
        Origin { path, line: record.line, raw: Some((DocumentFormat::Bigbio, raw)), header: String::new() };
    Ok(document)
}

fn document(value: &Value) -> Parsed<Document> {
    let name = |key: &str| text(&value[key]).filter(|id| !id.is_empty());
    let id = name("document_id").or_else(|| name("id"));
    let id = id.ok_or("is not a document of BigBio: it has neither `document_id` nor `id`")?;
    let within = |message: String| format!("document {id}: {message}");
    let mut document = Document { id: id.clone(), ..Document::default() };
    let passages = value["passages"].as_array().ok_or_else(|| within("it has no list of `passages`".into()))?;
    for (number, passage) in passages.iter().enumerate() {
        let wrong = || within(format!("passages[{number}] has no `text` and `offsets`: a list of each"));
        // Several texts are parts of one passage; each is read as a passage.
        let (texts, offsets) = (strings(&passage["text"]), segments(&passage["offsets"]));
        let (texts, offsets) = (texts.ok_or_else(wrong)?, offsets.ok_or_else(wrong)?);
        if texts.len() != offsets.len() {
            return Err(wrong());
        }
        let passage_type = text(&passage["type"]).unwrap_or_default();
        for (content, (start, end)) in texts.into_iter().zip(offsets) {
            let length = content.chars().count();
            if end.checked_sub(start) != Some(length) {
                let message = format!("passages[{number}] has the offsets {start} to {end}, but {length} characters");
                return Err(within(message));
            }
            document.passages.push(Passage {
                passage_type: passage_type.clone(),
                start,
                text: content,
                sentence: false,
            });
        }
    }
    document.passages.sort_by_key(|passage| passage.start);
    let overlap = |pair: &[Passage]| pair[0].start + pair[0].text.chars().count() > pair[1].start;
    if document.passages.windows(2).any(overlap) {
        return Err(within("its passages overlap".into()));
    }
    let mut entities: Vec<Stated> = Vec::new();
    for (number, entity) in list(&value["entities"]).iter().enumerate() {
        let id = text(&entity["id"]).ok_or_else(|| within(format!("entities[{number}] has no `id`")))?;
        if entities.iter().any(|known| known.id == id) {
            return Err(within(format!("entity {id} appears twice")));
        }
        let segments = segments(&entity["offsets"]).filter(|segments| !segments.is_empty());
        let segments = segments.ok_or_else(|| within(format!("entity {id} has no list of `offsets`")))?;
        let stated = strings(&entity["text"]).filter(|texts| !texts.is_empty()).map(|texts| texts.join(" "));
        let concept = |one: &Value| {
            let name = text(&one["db_id"]).filter(|name| !name.is_empty())?;
            let database = text(&one["db_name"]).filter(|database| !database.is_empty());
            Some(database.map_or_else(|| name.clone(), |database| format!("{database}:{name}")))
        };
        entities.push(Stated {
            id,
            entity_type: text(&entity["type"]).unwrap_or_default(),
            segments,
            text: stated,
            identifiers: list(&entity["normalized"]).iter().filter_map(concept).collect(),
        });
    }
    place(&mut document, entities, &OffsetUnit::ALL).map_err(|(_, message)| within(message))?;
    for (number, relation) in list(&value["relations"]).iter().enumerate() {
        let id = text(&relation["id"]).unwrap_or_else(|| format!("R{}", number + 1));
        let relation_type = text(&relation["type"]).filter(|name| !name.is_empty());
        let relation_type = relation_type.ok_or_else(|| within(format!("relation {id} has no `type`")))?;
        let argument = |key: &str| {
            let name = text(&relation[key]).ok_or_else(|| within(format!("relation {id} has no `{key}`")))?;
            let index = document.mentions.iter().position(|mention| mention.id == name);
            index
                .map(Argument::Mention)
                .ok_or_else(|| within(format!("relation {id} names {name}, which does not exist")))
        };
        let arguments = [argument("arg1_id")?, argument("arg2_id")?];
        document.relations.push(Relation::new(id, relation_type, arguments));
    }
    for (key, reason) in [
        ("events", "an event; only relations of two mentions are read"),
        ("coreferences", "a coreference; only relations of two mentions are read"),
    ] {
        for (number, one) in list(&value[key]).iter().enumerate() {
            let id = text(&one["id"]).unwrap_or_else(|| format!("{key}{number}"));
            document.note(FindingKind::Skipped, &id, reason);
        }
    }
    Ok(document)
}

/// A list of strings, or one string.
fn strings(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(list) => list.iter().map(|one| one.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

/// A list of pairs of numbers.
fn segments(value: &Value) -> Option<Vec<(usize, usize)>> {
    let pair = |one: &Value| match list(one) {
        [start, end] => Some((offset(start)?, offset(end)?)),
        _ => None,
    };
    value.as_array()?.iter().map(pair).collect()
}

pub(super) fn write(document: &Document, predicted: &[Predicted], original: Option<&str>) -> Result<String> {
    if let (Some(raw), []) = (original, predicted) {
        return Ok(raw.to_owned());
    }
    let mut ids = fresh_ids(document, "biorel");
    let mut value = match original {
        Some(raw) => json::reparse(raw, &document.origin.path)?,
        None => {
            let passages = document.passages.iter().enumerate().map(|(number, passage)| {
                let end = passage.start + passage.text.chars().count();
                json!({
                    "id": format!("passage{number}"), "type": passage.passage_type, "text": [passage.text],
                    "offsets": [[passage.start, end]]
                })
            });
            let entity = |mention: &Mention| {
                let slices: Vec<&str> = mention.spans.iter().filter_map(|&span| document.slice(span)).collect();
                let offsets: Vec<[usize; 2]> = mention.spans.iter().map(|span| [span.start, span.end]).collect();
                let concept = |name: &String| {
                    let (database, name) = name.split_once(':').unwrap_or(("", name));
                    json!({"db_name": database, "db_id": name})
                };
                json!({
                    "id": mention.id, "type": mention.entity_type, "text": slices, "offsets": offsets,
                    "normalized": mention.identifiers.iter().map(concept).collect::<Vec<_>>()
                })
            };
            let mut relations = Vec::new();
            for one in &document.relations {
                let [Argument::Mention(first), Argument::Mention(second)] = one.arguments else {
                    let message = "a relation between concepts, which BigBio's schema cannot represent";
                    return Err(Error::corpus(format!("document {}", document.id), message));
                };
                let [first, second] = [first, second].map(|index| &document.mentions[index].id);
                relations.push(json!({
                    "id": one.id, "type": one.relation_type, "arg1_id": first, "arg2_id": second, "normalized": []
                }));
            }
            json!({
                "id": document.id, "document_id": document.id, "passages": passages.collect::<Vec<_>>(),
                "entities": document.mentions.iter().map(entity).collect::<Vec<_>>(), "events": [],
                "coreferences": [], "relations": relations
            })
        }
    };
    let added = predicted.iter().map(|one| {
        let [first, second] = one.mentions.map(|index| &document.mentions[index].id);
        let mut relation = Map::new();
        for (key, value) in [
            ("id", json!(ids.next())),
            ("type", json!(one.label)),
            ("arg1_id", json!(first)),
            ("arg2_id", json!(second)),
            ("normalized", json!([])),
            ("probability", json!(one.probability)),
            ("model", json!(one.model)),
        ] {
            relation.insert(key.to_owned(), value);
        }
        Value::Object(relation)
    });
    let added: Vec<Value> = added.collect();
    if let Some(object) = value.as_object_mut() {
        add_to_list(object, "relations", added);
    }
    Ok(value.to_string())
}
