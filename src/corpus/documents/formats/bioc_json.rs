//! BioC in JSON, as the `bioc` library and PubTator write it.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::bioc::{arguments, attributes, fresh_ids, infons_of, named};
use super::bioc_record::{Annotation, Bioc, BiocPassage, BiocRelation};
use super::json::{self, Parsed, list, text};
use crate::corpus::Span;
use crate::corpus::documents::document::{Document, Mention, Origin, Predicted};
use crate::corpus::documents::inputs::DocumentFormat;
use crate::corpus::documents::records::Record;
use crate::{Error, Result};

pub(super) fn parse(record: Record) -> Result<Document> {
    let raw = Record::decode(record.raw.clone(), &record.path, record.line)?;
    let value = json::parse(&raw, &record)?;
    // The parser keeps no line numbers: messages name the document's first line.
    let fail = |message: String| Error::corpus_line(&*record.path, record.line, message);
    let bioc = document(&value).map_err(fail)?;
    let mut document = bioc.into_document(|_, message| fail(message))?;
    let (path, header) = (record.path.to_path_buf(), record.header.to_string());
    document.origin = Origin { path, line: record.line, raw: Some((DocumentFormat::BiocJson, raw)), header };
    Ok(document)
}

fn document(value: &Value) -> Parsed<Bioc> {
    let id = text(&value["id"]).filter(|id| !id.is_empty()).or_else(|| text(&value["pmid"]));
    let id = id.ok_or("is not a BioC document: it has no `id`")?;
    let within = |message: String| format!("document {id}: {message}");
    let mut bioc = Bioc { id: id.clone(), ..Bioc::default() };
    let passages = value["passages"].as_array().ok_or_else(|| within("it has no list of `passages`".into()))?;
    for node in passages {
        passage(node, false, &mut bioc).map_err(within)?;
    }
    add_relations(value, &mut bioc).map_err(within)?;
    Ok(bioc)
}

fn passage(node: &Value, sentence: bool, bioc: &mut Bioc) -> Parsed<()> {
    let offset = node["offset"].as_u64().ok_or("a passage has no `offset`, a whole number from 0")?;
    let passage_type = ["type", "section_type"].iter().find_map(|key| text(&node["infons"][*key])).unwrap_or_default();
    let sentences = node["sentences"].as_array().map(Vec::as_slice).unwrap_or_default();
    for sentence in sentences {
        passage(sentence, true, bioc)?;
        if let Some(last) = bioc.passages.last_mut()
            && last.passage_type.is_empty()
        {
            last.passage_type.clone_from(&passage_type);
        }
    }
    let own = text(&node["text"]).unwrap_or_default();
    let holder = match sentences.is_empty() || !own.is_empty() {
        true => {
            let offset = offset as usize;
            // If a passage has sentences too, its text is redundant, but its annotations refer to it.
            let duplicate = !sentences.is_empty();
            bioc.passages.push(BiocPassage { passage_type, offset, text: own, sentence, duplicate });
            Some(bioc.passages.len() - 1)
        }
        false => None,
    };
    for node in list(&node["annotations"]) {
        annotation(node, holder, bioc)?;
    }
    add_relations(node, bioc)
}

fn annotation(node: &Value, passage: Option<usize>, bioc: &mut Bioc) -> Parsed<()> {
    let id = text(&node["id"]).unwrap_or_default();
    let mut segments = Vec::new();
    for location in list(&node["locations"]) {
        let (offset, length) = (location["offset"].as_u64(), location["length"].as_u64());
        let (Some(offset), Some(length)) = (offset, length) else {
            return Err(format!("annotation {id}: a location has no `offset` and `length`, whole numbers from 0"));
        };
        segments.push((offset as usize, length as usize));
    }
    let infons = infons(&node["infons"]);
    bioc.annotations.push(Annotation { id, infons, segments, text: text(&node["text"]), passage, at: 0 });
    Ok(())
}

/// Relations, which may be at any level.
fn add_relations(node: &Value, bioc: &mut Bioc) -> Parsed<()> {
    for relation in list(&node["relations"]) {
        let id = text(&relation["id"]).unwrap_or_else(|| format!("R{}", bioc.relations.len() + 1));
        let nodes = list(&relation["nodes"]).iter().filter_map(|node| text(&node["refid"])).collect();
        bioc.relations.push(BiocRelation { id, infons: infons(&relation["infons"]), nodes, at: 0 });
    }
    Ok(())
}

fn infons(value: &Value) -> Vec<(String, String)> {
    let pairs = value.as_object().into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.clone(), text(value)?))).collect()
}

pub(super) fn write(document: &Document, predicted: &[Predicted], original: Option<&str>) -> Result<String> {
    let mut value: Value = match original {
        Some(raw) => json::reparse(raw, &document.origin.path)?,
        None => {
            let passages: Vec<Value> = document
                .passages
                .iter()
                .enumerate()
                .map(|(number, passage)| {
                    let own = document.mentions.iter().filter(|mention| mention.passage == Some(number));
                    json!({
                        "offset": passage.start,
                        "infons": {"type": passage.passage_type},
                        "text": passage.text,
                        "sentences": [],
                        "annotations": own.map(written_annotation).collect::<Vec<_>>(),
                        "relations": [],
                    })
                })
                .collect();
            let relations: Vec<Value> = document.relations.iter().map(|relation| {
                let (infons, nodes) = arguments(document, &relation.arguments);
                let mut all = Map::from_iter([("type".to_owned(), json!(relation.relation_type))]);
                all.extend(infons.into_iter().map(|(key, value)| (key.to_owned(), json!(value))));
                all.extend(attributes(relation).map(|(key, value)| (key.to_owned(), json!(value))));
                json!({"id": relation.id, "infons": all, "nodes": nodes.iter().map(|(refid, role)| json!({"refid": refid, "role": role})).collect::<Vec<_>>()})
            }).collect();
            json!({"id": document.id, "infons": {}, "passages": passages, "relations": relations})
        }
    };
    if !predicted.is_empty() {
        if !value["relations"].is_array() {
            value["relations"] = json!([]);
        }
        let mut ids = fresh_ids(document, "biorel");
        for (one, nodes) in predicted.iter().zip(named(document, predicted)?) {
            let infons: Map<String, Value> =
                infons_of(one).into_iter().map(|(key, value)| (key.to_owned(), json!(value))).collect();
            let node = |side: usize| json!({"refid": nodes[side], "role": format!("Arg{}", side + 1)});
            let relation = json!({"id": ids.next(), "infons": infons, "nodes": [node(0), node(1)]});
            if let Some(list) = value["relations"].as_array_mut() {
                list.push(relation);
            }
        }
    } else if let Some(raw) = original {
        return Ok(raw.to_owned());
    }
    Ok(value.to_string())
}

fn written_annotation(mention: &Mention) -> Value {
    let mut infons = Map::from_iter([("type".to_owned(), json!(mention.entity_type))]);
    if !mention.identifiers.is_empty() {
        infons.insert("identifier".to_owned(), json!(mention.identifiers.join(";")));
    }
    let location = |span: &Span| json!({"offset": span.start, "length": span.len()});
    let locations: Vec<Value> = mention.spans.iter().map(location).collect();
    json!({"id": mention.id, "infons": infons, "text": mention.text, "locations": locations})
}

/// A collection of documents from [`write`]. `header` is the original file before the first
/// document: the fields of the collection.
pub(super) fn collection(header: &str, documents: &[String]) -> String {
    let fields: Option<Map<String, Value>> = serde_json::from_str(&format!("{header}[]}}")).ok();
    let fields = fields.filter(|fields| fields.contains_key("documents")).unwrap_or_else(|| {
        let empty = json!({"source": "", "date": "", "key": "", "version": "1.0", "infons": {}});
        empty.as_object().cloned().unwrap_or_default()
    });
    let mut text = String::from("{");
    for (key, value) in fields.iter().filter(|(key, _)| *key != "documents") {
        let _ = write!(text, "{}: {value}, ", Value::from(key.as_str()));
    }
    format!("{text}\"documents\": [\n{}\n]}}\n", documents.join(",\n"))
}
