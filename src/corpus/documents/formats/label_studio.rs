//! Label Studio's JSON export: a list of tasks with the regions (`labels`) and relations that
//! annotators made.
//!
//! ```text
//! [{"id": 7, "data": {"text": "..."}, "annotations": [{"was_cancelled": false, "result": [
//!    {"id": "a", "type": "labels", "value": {"start": 0, "end": 7, "text": "...", "labels": ["Drug"]}},
//!    {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right", "labels": ["effect"]}]}]}]
//! ```
//! The document is the task, its text `data.text` or the only string of `data`. The first annotation
//! that is not cancelled counts; others are reported as skipped. A relation with the direction
//! `left` has its arguments exchanged; one without a label has the type [`UNLABELLED`]. Offsets
//! count characters or UTF-16 code units, whichever fits the texts of the regions.

use serde_json::{Value, json};

use super::super::document::{Argument, Document, Mention, Origin, Passage, Predicted, Relation};
use super::super::inputs::DocumentFormat;
use super::super::offsets::OffsetUnit;
use super::super::records::Record;
use super::flat::{Stated, place};
use super::json::{self, Parsed, list, offset, text};
use super::prodigy::add_to_list;
use crate::corpus::FindingKind;
use crate::{Error, Result};

/// The type of a relation that annotators drew without a label.
const UNLABELLED: &str = "related";

pub(super) fn parse(record: Record) -> Result<Document> {
    let raw = Record::decode(record.raw.clone(), &record.path, record.line)?;
    let value = json::parse(&raw, &record)?;
    let fail = |message: String| Error::corpus_line(&*record.path, record.line, message);
    let mut document = document(&value).map_err(fail)?;
    let path = record.path.to_path_buf();
    let raw = Some((DocumentFormat::LabelStudio, raw));
    document.origin = Origin { path, line: record.line, raw, header: String::new() };
    Ok(document)
}

fn document(value: &Value) -> Parsed<Document> {
    let id =
        text(&value["id"]).ok_or("is not a task of Label Studio: it has no `id`; export as JSON, not as JSON-MIN")?;
    let within = |message: String| format!("task {id}: {message}");
    let data = value["data"].as_object().ok_or_else(|| within("it has no object `data`".into()))?;
    let mut strings = data.values().filter_map(Value::as_str);
    let content = match (data.get("text").and_then(Value::as_str), strings.next(), strings.next()) {
        (Some(text), ..) | (None, Some(text), None) => text,
        _ => return Err(within("`data` has neither a string `text` nor exactly one string".into())),
    };
    let mut document = Document { id: id.clone(), ..Document::default() };
    document.passages =
        vec![Passage { passage_type: String::new(), start: 0, text: content.to_owned(), sentence: false }];
    let annotations = ["annotations", "completions"].iter().flat_map(|key| list(&value[*key]));
    let mut used = annotations.filter(|annotation| annotation["was_cancelled"].as_bool() != Some(true));
    let mut chosen = used.next();
    let others = used.count();
    if others > 0 {
        let reason = format!("{others} more annotations of the same task; the first one is read");
        document.note(FindingKind::Skipped, "annotations", &reason);
    }
    if chosen.is_none()
        && let Some(prediction) = list(&value["predictions"]).first()
    {
        document.note(FindingKind::Repaired, "predictions", "no annotation; the first prediction is read");
        chosen = Some(prediction);
    }
    let results = chosen.map_or(&[][..], |annotation| list(&annotation["result"]));
    let mut entities: Vec<Stated> = Vec::new();
    for result in results {
        let kind = result["type"].as_str().unwrap_or_default();
        let id = text(&result["id"]).unwrap_or_default();
        match kind {
            "labels" | "hypertextlabels" => {
                let value = &result["value"];
                let (start, end) = (offset(&value["start"]), offset(&value["end"]));
                let (Some(start), Some(end)) = (start, end) else {
                    return Err(within(format!("region {id} has no `start` and `end`, whole numbers from 0")));
                };
                let mut labels = list(&value[kind]).iter().filter_map(Value::as_str);
                let entity_type = labels.next().unwrap_or_default().to_owned();
                if labels.next().is_some() {
                    return Err(within(format!("region {id} has several labels, where an entity has one type")));
                }
                if entities.iter().any(|known| known.id == id) {
                    return Err(within(format!("region {id} appears twice")));
                }
                let text = value["text"].as_str().map(str::to_owned);
                entities.push(Stated { id, entity_type, segments: vec![(start, end)], text, identifiers: Vec::new() });
            }
            "relation" => {}
            other => {
                let reason = format!("a result of the type `{other}`, neither a label nor a relation");
                document.note(FindingKind::Skipped, &id, &reason);
            }
        }
    }
    let units = [OffsetUnit::Characters, OffsetUnit::Utf16];
    place(&mut document, entities, &units).map_err(|(_, message)| within(message))?;
    for relation in results.iter().filter(|result| result["type"] == "relation") {
        let argument = |key: &str| {
            let name = text(&relation[key]).ok_or_else(|| within(format!("a relation has no `{key}`")))?;
            let index = document.mentions.iter().position(|mention| mention.id == name);
            index.ok_or_else(|| within(format!("a relation names the region {name}, which does not exist")))
        };
        let mut arguments = [argument("from_id")?, argument("to_id")?];
        let direction = relation["direction"].as_str().unwrap_or("right");
        if direction == "left" {
            arguments.reverse();
        }
        let labels: Vec<&str> = list(&relation["labels"]).iter().filter_map(Value::as_str).collect();
        for label in if labels.is_empty() { vec![UNLABELLED] } else { labels } {
            let id = format!("R{}", document.relations.len() + 1);
            let attributes = (direction == "bi").then(|| ("direction".to_owned(), "bi".to_owned()));
            let attributes = attributes.into_iter().collect();
            let relation = Relation::new(id, label, arguments.map(Argument::Mention));
            document.relations.push(Relation { attributes, ..relation });
        }
    }
    Ok(document)
}

/// A task; predicted relations are a prediction with the entities, which Label Studio shows to
/// annotators.
pub(super) fn write(document: &Document, predicted: &[Predicted], original: Option<&str>) -> Result<String> {
    if let (Some(raw), []) = (original, predicted) {
        return Ok(raw.to_owned());
    }
    let region = |mention: &Mention| {
        let bounds = mention.bounding_span();
        let value = json!({
            "start": bounds.start, "end": bounds.end, "text": document.slice(bounds).unwrap_or_default(),
            "labels": [mention.entity_type]
        });
        json!({"id": mention.id, "from_name": "label", "to_name": "text", "type": "labels", "value": value})
    };
    let relation = |label: &str, mentions: [usize; 2]| {
        let [first, second] = mentions.map(|index| &document.mentions[index].id);
        json!({"type": "relation", "from_id": first, "to_id": second, "direction": "right", "labels": [label]})
    };
    let mut value = match original {
        Some(raw) => json::reparse(raw, &document.origin.path)?,
        None => {
            let mut results: Vec<Value> = document.mentions.iter().map(region).collect();
            for one in &document.relations {
                let [Argument::Mention(first), Argument::Mention(second)] = one.arguments else {
                    let message = "a relation between concepts, which Label Studio's format cannot represent";
                    return Err(Error::corpus(format!("document {}", document.id), message));
                };
                results.push(relation(&one.relation_type, [first, second]));
            }
            json!({"id": document.id, "data": {"text": document.text()}, "annotations": [{"result": results}]})
        }
    };
    if let (Some(object), Some(first)) = (value.as_object_mut(), predicted.first()) {
        let regions = document.mentions.iter().map(region);
        let relations = predicted.iter().map(|one| {
            let mut value = relation(one.label, one.mentions);
            value["score"] = json!(one.probability);
            value
        });
        let results: Vec<Value> = regions.chain(relations).collect();
        add_to_list(object, "predictions", vec![json!({"model_version": first.model, "result": results})]);
    }
    Ok(value.to_string())
}

/// A list of tasks.
pub(super) fn collection(documents: &[String]) -> String {
    format!("[\n{}\n]\n", documents.join(",\n"))
}
