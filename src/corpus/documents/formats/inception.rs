//! INCEpTION's export in UIMA CAS JSON: one document per file, as a list of feature structures.
//!
//! ```text
//! {"%TYPES": {...}, "%FEATURE_STRUCTURES": [
//!   {"%ID": 1, "%TYPE": "uima.cas.Sofa", "sofaString": "..."},
//!   {"%ID": 3, "%TYPE": "custom.Span", "@sofa": 1, "begin": 0, "end": 7, "label": "Drug"},
//!   {"%ID": 5, "%TYPE": "custom.Relation", "@Governor": 3, "@Dependent": 4, "label": "effect"}]}
//! ```
//! A feature structure with `@Governor` and `@Dependent` is a relation, in this order, unless it is
//! a syntactic dependency. Entities are the named entities, the spans of custom layers and whatever a
//! relation names. Their type is the feature `value` or `label`, else the only string feature, else
//! the name of the layer; the concept is `identifier`. Sentences are used if they are annotated;
//! tokens and other linguistic layers are not. Offsets count UTF-16 code units, as in Java. The
//! document is named by its metadata, else after its file.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::super::document::{Argument, Document, Origin, Passage, Relation};
use super::super::inputs::DocumentFormat;
use super::super::offsets::{Converter, OffsetUnit};
use super::super::records::Record;
use super::flat::{Stated, place};
use super::json::{self, Parsed, offset, text};
use crate::corpus::{FindingKind, Span};
use crate::{Error, Result};

/// Packages of layers that have no entities.
const LINGUISTIC: [&str; 2] = ["uima.", "de.tudarmstadt.ukp."];
/// Layers of these packages that have.
const ENTITY: &str = ".ner.type.NamedEntity";
const SENTENCE: &str = ".segmentation.type.Sentence";
const METADATA: &str = ".metadata.type.DocumentMetaData";
/// Features that name a type, in the order in which they are tried.
const TYPES: [&str; 3] = ["value", "label", "type"];

pub(super) fn parse(record: Record) -> Result<Document> {
    let raw = Record::decode(record.raw.clone(), &record.path, record.line)?;
    let value = json::parse(&raw, &record)?;
    let fail = |message: String| Error::corpus_line(&*record.path, record.line, message);
    let name = record.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let stem = name.strip_suffix(".json").unwrap_or(name);
    let mut document = document(&value, stem).map_err(fail)?;
    let path = record.path.to_path_buf();
    document.origin =
        Origin { path, line: record.line, raw: Some((DocumentFormat::Inception, raw)), header: String::new() };
    Ok(document)
}

fn document(value: &Value, stem: &str) -> Parsed<Document> {
    // Earlier versions list the structures as an object by identifier.
    let structures: Vec<&Value> = match &value["%FEATURE_STRUCTURES"] {
        Value::Array(list) => list.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => return Err("is not a UIMA CAS in JSON: it has no `%FEATURE_STRUCTURES`".into()),
    };
    let layer = |one: &Value| one["%TYPE"].as_str().unwrap_or_default().to_owned();
    let texts = structures.iter().filter(|one| one["%TYPE"] == "uima.cas.Sofa");
    let mut texts = texts.filter_map(|one| Some((text(&one["%ID"])?, one["sofaString"].as_str()?)));
    let (sofa, content) = texts.next().ok_or("the CAS has no text: no `uima.cas.Sofa` with a `sofaString`")?;
    if texts.next().is_some() {
        return Err("the CAS has several texts, and it is unclear which one to read".into());
    }
    let metadata = structures.iter().find(|one| layer(one).ends_with(METADATA));
    let title = metadata.and_then(|one| text(&one["documentTitle"]).or_else(|| text(&one["documentId"])));
    let id = title.filter(|title| !title.is_empty()).unwrap_or_else(|| stem.to_owned());
    let within = |message: String| format!("document {id}: {message}");
    let mut document = Document { id: id.clone(), ..Document::default() };
    let position = |one: &Value| {
        let key = |name: &str| offset(&one[name]).or_else(|| offset(&one[format!("^{name}")]));
        Some((key("begin")?, key("end")?))
    };
    document.passages = sentences(content, structures.iter().filter(|one| layer(one).ends_with(SENTENCE)), &position)
        .map_err(&within)?;
    let argument = |one: &Value, key: &str| {
        let name = format!("@{key}");
        [name.as_str(), key].iter().find_map(|key| text(&one[*key]))
    };
    let is_linguistic = |layer: &str| LINGUISTIC.iter().any(|package| layer.starts_with(package));
    let relations: Vec<(&Value, [String; 2])> = structures
        .iter()
        .filter(|one| !is_linguistic(&layer(one)))
        .filter_map(|one| Some((*one, [argument(one, "Governor")?, argument(one, "Dependent")?])))
        .collect();
    let named: HashSet<&String> = relations.iter().flat_map(|(_, arguments)| arguments).collect();
    let mut entities: Vec<Stated> = Vec::new();
    for one in &structures {
        let (layer, Some(name)) = (layer(one), text(&one["%ID"])) else { continue };
        let is_relation = relations.iter().any(|(relation, _)| std::ptr::eq(*relation, *one));
        let wanted = named.contains(&name) || layer.ends_with(ENTITY) || !is_linguistic(&layer);
        let own = text(&one["@sofa"]).is_none_or(|own| own == sofa);
        let (Some(segment), true) = (position(one), wanted && !is_relation && own) else { continue };
        if segment.0 == segment.1 {
            document.note(FindingKind::Skipped, &name, "an annotation of no characters");
            continue;
        }
        entities.push(Stated {
            id: name,
            entity_type: type_of(one, &layer),
            segments: vec![segment],
            text: None,
            identifiers: one["identifier"].as_str().map(str::to_owned).into_iter().collect(),
        });
    }
    place(&mut document, entities, &[OffsetUnit::Utf16]).map_err(|(_, message)| within(message))?;
    let index: HashMap<String, usize> =
        document.mentions.iter().enumerate().map(|(index, mention)| (mention.id.clone(), index)).collect();
    for (number, (one, arguments)) in relations.into_iter().enumerate() {
        let id = text(&one["%ID"]).unwrap_or_else(|| format!("R{}", number + 1));
        let mention = |name: &String| {
            let found = index.get(name).copied().map(Argument::Mention);
            found.ok_or_else(|| within(format!("relation {id} names {name}, which is not an annotation of the text")))
        };
        let arguments = [mention(&arguments[0])?, mention(&arguments[1])?];
        let relation_type = type_of(one, &layer(one));
        document.relations.push(Relation::new(id, relation_type, arguments));
    }
    Ok(document)
}

/// The sentences as passages; the whole text if none is annotated.
fn sentences<'a>(
    content: &str,
    annotated: impl Iterator<Item = &'a &'a Value>,
    position: &dyn Fn(&Value) -> Option<(usize, usize)>,
) -> Parsed<Vec<Passage>> {
    let converter = Converter::new(content, OffsetUnit::Utf16);
    let mut spans: Vec<Span> = Vec::new();
    for segment in annotated.filter_map(|one| position(one)).filter(|(start, end)| start < end) {
        let (found, _) = converter.spans(&[segment]).ok_or_else(|| {
            format!("a sentence has the offsets {} to {}, which are outside of the text", segment.0, segment.1)
        })?;
        spans.extend(found);
    }
    spans.sort_unstable();
    let passage = |start: usize, text: String, sentence| Passage { passage_type: String::new(), start, text, sentence };
    if spans.is_empty() || spans.windows(2).any(|pair| pair[0].end > pair[1].start) {
        return Ok(vec![passage(0, content.to_owned(), false)]);
    }
    let text = |span: &Span| content.chars().skip(span.start).take(span.len()).collect();
    Ok(spans.iter().map(|span| passage(span.start, text(span), true)).collect())
}

/// The type that a feature states.
fn type_of(one: &Value, layer: &str) -> String {
    let features = one.as_object().into_iter().flatten();
    let mut strings = features
        .filter(|(key, _)| !key.starts_with(['%', '@', '^']) && key.as_str() != "identifier")
        .filter_map(|(_, value)| value.as_str());
    let named = TYPES.iter().find_map(|key| one[*key].as_str());
    let only = match (strings.next(), strings.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    };
    let name = named.or(only).filter(|name| !name.is_empty());
    name.unwrap_or_else(|| layer.rsplit('.').next().unwrap_or(layer)).to_owned()
}
