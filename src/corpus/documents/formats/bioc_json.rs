//! A document in BioC-JSON, as the `bioc` library and PubTator write it.

use serde_json::Value;

use crate::corpus::documents::records::Record;
use crate::corpus::documents::{Document, Format, Origin};
use crate::{Error, Result};

use super::bioc_xml::{Annotation, Bioc, BiocPassage, BiocRelation};

pub(in crate::corpus::documents) fn parse(record: Record) -> Result<Document> {
    let raw = Record::decode(record.raw, &record.path, record.line)?;
    let value: Value = serde_json::from_str(&raw).map_err(|error| {
        let line = record.line + error.line().saturating_sub(1);
        Error::corpus_line(&*record.path, line, format!("is not well-formed JSON: {error}"))
    })?;
    // The parser keeps no lines: messages name the document's first.
    let fail = |message: String| Error::corpus_line(&*record.path, record.line, message);
    let bioc = document(&value).map_err(fail)?;
    let mut document = bioc.into_document(|_, message| fail(message))?;
    let (path, header) = (record.path.to_path_buf(), record.header.to_string());
    document.origin = Origin { path, line: record.line, raw: Some((Format::BiocJson, raw)), header };
    Ok(document)
}

type Parsed<T> = std::result::Result<T, String>;

fn document(value: &Value) -> Parsed<Bioc> {
    let id = text(&value["id"]).filter(|id| !id.is_empty()).or_else(|| text(&value["pmid"]));
    let id = id.ok_or("is not a BioC document: it has no `id`")?;
    let within = |message: String| format!("document {id}: {message}");
    let mut bioc = Bioc { id: id.clone(), ..Bioc::default() };
    let passages = value["passages"].as_array().ok_or_else(|| within("it has no list of `passages`".into()))?;
    for node in passages {
        passage(node, false, &mut bioc).map_err(within)?;
    }
    common(value, &mut bioc).map_err(within)?;
    Ok(bioc)
}

fn passage(node: &Value, sentence: bool, bioc: &mut Bioc) -> Parsed<()> {
    let offset = node["offset"].as_u64().ok_or("a passage has no `offset`, a whole number from 0")?;
    let kind = ["type", "section_type"].iter().find_map(|key| text(&node["infons"][*key])).unwrap_or_default();
    let sentences = node["sentences"].as_array().map(Vec::as_slice).unwrap_or_default();
    for sentence in sentences {
        passage(sentence, true, bioc)?;
        if let Some(last) = bioc.passages.last_mut()
            && last.kind.is_empty()
        {
            last.kind.clone_from(&kind);
        }
    }
    let own = text(&node["text"]).unwrap_or_default();
    let holder = match sentences.is_empty() || !own.is_empty() {
        true => {
            let offset = offset as usize;
            // With its sentences beside it, the text of a passage says nothing new, but its annotations count in it.
            let duplicate = !sentences.is_empty();
            bioc.passages.push(BiocPassage { kind, offset, text: own, sentence, duplicate });
            Some(bioc.passages.len() - 1)
        }
        false => None,
    };
    for node in list(&node["annotations"]) {
        annotation(node, holder, bioc)?;
    }
    common(node, bioc)
}

fn annotation(node: &Value, passage: Option<usize>, bioc: &mut Bioc) -> Parsed<()> {
    let id = text(&node["id"]).unwrap_or_default();
    let mut segments = Vec::new();
    for place in list(&node["locations"]) {
        let (offset, length) = (place["offset"].as_u64(), place["length"].as_u64());
        let (Some(offset), Some(length)) = (offset, length) else {
            return Err(format!("annotation {id}: a location has no `offset` and `length`, whole numbers from 0"));
        };
        segments.push((offset as usize, length as usize));
    }
    let infons = infons(&node["infons"]);
    bioc.annotations.push(Annotation { id, infons, segments, text: text(&node["text"]), passage, at: 0 });
    Ok(())
}

/// Relations, which may stand at any level.
fn common(node: &Value, bioc: &mut Bioc) -> Parsed<()> {
    for relation in list(&node["relations"]) {
        let id = text(&relation["id"]).unwrap_or_else(|| format!("R{}", bioc.relations.len() + 1));
        let nodes = list(&relation["nodes"]).iter().filter_map(|node| text(&node["refid"])).collect();
        bioc.relations.push(BiocRelation { id, infons: infons(&relation["infons"]), nodes, at: 0 });
    }
    Ok(())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A string, or a number as it is written.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn infons(value: &Value) -> Vec<(String, String)> {
    let pairs = value.as_object().into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.clone(), text(value)?))).collect()
}
