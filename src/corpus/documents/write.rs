//! Documents written: in the format they were read in, as they stood there, with relations added; in another one, from
//! what biorel knows of them.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::{Argument, Document, Format, Mention};
use crate::corpus::Span;
use crate::{Error, Result};

/// A relation to be added.
#[derive(Debug, Clone, PartialEq)]
pub struct Predicted<'a> {
    /// Its label.
    pub label: &'a str,
    /// The mentions, by index.
    pub mentions: [usize; 2],
    /// The label's probability.
    pub probability: f32,
    /// Name and hash of the model.
    pub model: &'a str,
}

/// The lines of PubTator's format for relations that are added, without the document: identifier, label, the two
/// concepts, probability, model. One line for each relation of two concepts, with the highest probability of the pairs of
/// mentions that state it.
pub fn relation_lines(document: &Document, predicted: &[Predicted], end: &str) -> String {
    let mut lines: BTreeMap<(&str, String, String), (f32, &str)> = BTreeMap::new();
    for one in predicted {
        for first in document.concepts_of(one.mentions[0]) {
            for second in document.concepts_of(one.mentions[1]) {
                let best = lines.entry((one.label, first.clone(), second)).or_insert((one.probability, one.model));
                best.0 = best.0.max(one.probability);
            }
        }
    }
    let mut text = String::new();
    for ((label, first, second), (probability, model)) in lines {
        let _ = write!(text, "{}\t{label}\t{first}\t{second}\t{probability:.4}\t{model}{end}", document.id);
    }
    text
}

/// One document with relations added. brat's text is [`Document::text`].
///
/// # Errors
/// [`Error::Corpus`] for a document that the format cannot hold.
pub fn write_document(document: &Document, predicted: &[Predicted], format: Format) -> Result<String> {
    let kept = document.origin.raw.as_ref().filter(|(own, _)| *own == format).map(|(_, raw)| raw.as_str());
    match format {
        Format::Pubtator => pubtator(document, predicted, kept),
        Format::BiocJson => bioc_json(document, predicted, kept),
        Format::BiocXml => bioc_xml(document, predicted, kept),
        Format::Brat => brat(document, predicted, kept),
    }
}

/// A file of documents that [`write_document`] wrote; `header` is what stood before the first of them where they were
/// read.
pub fn write_collection(format: Format, header: &str, documents: &[String]) -> String {
    match format {
        Format::Pubtator | Format::Brat => documents.concat(),
        Format::BiocXml => {
            let start = if header.contains("<collection") {
                header.to_owned()
            } else {
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<collection><source></source><date></date><key></key>\n"
                    .to_owned()
            };
            format!("{start}{}\n</collection>\n", documents.join("\n"))
        }
        Format::BiocJson => {
            // The collection's own fields, which stand before the list of documents.
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
    }
}

impl Document {
    /// The whole text, with blanks where there is none between passages.
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

    fn concepts_of(&self, index: usize) -> Vec<String> {
        let mention = &self.mentions[index];
        let hull = mention.hull();
        match mention.identifiers.is_empty() {
            true => vec![format!("@{}-{}", hull.start, hull.end)],
            false => mention.identifiers.clone(),
        }
    }
}

/// Lines of the document and of its relations; a blank line at the end.
fn pubtator(document: &Document, predicted: &[Predicted], kept: Option<&str>) -> Result<String> {
    // Its last line may have no end, or end in the middle of one; a return before that is text.
    let body = kept.map(|raw| raw.strip_suffix('\n').unwrap_or(raw)).map(|raw| raw.strip_suffix('\r').unwrap_or(raw));
    let returns = kept.is_some_and(|raw| raw.contains("\r\n")) || body.is_some_and(|body| body.ends_with('\r'));
    let end = if returns { "\r\n" } else { "\n" };
    let text = match body {
        Some(body) => format!("{body}{end}"),
        None => pubtator_lines(document)?,
    };
    Ok(text + &relation_lines(document, predicted, end) + end)
}

/// A document that was not read from PubTator: its first passage as title, the others as abstract.
fn pubtator_lines(document: &Document) -> Result<String> {
    let id = &document.id;
    if id.is_empty() || id.contains(['|', '\t', '\n', '\r']) {
        let message = "PubTator's format cannot hold this identifier; give the document another one";
        return Err(Error::corpus(format!("document {id:?}"), message));
    }
    let line = |text: &str| text.replace(['\n', '\r', '\t'], " ");
    let (mut starts, mut at) = (Vec::new(), 0);
    for passage in &document.passages {
        starts.push(at);
        at += passage.text.chars().count() + 1;
    }
    let texts: Vec<String> = document.passages.iter().map(|passage| line(&passage.text)).collect();
    let (title, body) = texts.split_first().map(|(first, rest)| (first.clone(), rest.join(" "))).unwrap_or_default();
    let mut text = format!("{id}|t|{title}\n{id}|a|{body}\n");
    for mention in &document.mentions {
        let Some(passage) = mention.passage else {
            let message = format!("mention {} stands in two passages, which PubTator's format cannot hold", mention.id);
            return Err(Error::corpus(format!("document {id}"), message));
        };
        let hull = mention.hull();
        let own = document.passages[passage].start;
        let (start, end) = (hull.start - own + starts[passage], hull.end - own + starts[passage]);
        let stands = line(document.slice(hull).unwrap_or_default());
        let _ = write!(text, "{id}\t{start}\t{end}\t{stands}\t{}", line(&mention.kind));
        match mention.identifiers.is_empty() {
            true => text.push_str("\t-\n"),
            false => {
                let _ = writeln!(text, "\t{}", line(&mention.identifiers.join(";")));
            }
        }
    }
    for relation in &document.relations {
        let name = |argument: &Argument| match argument {
            Argument::Mention(index) => {
                let mention = &document.mentions[*index];
                let (own, at) = mention.passage.map_or((0, 0), |p| (document.passages[p].start, starts[p]));
                let hull = mention.hull();
                format!("@{}-{}", hull.start - own + at, hull.end - own + at)
            }
            Argument::Concept(name) => name.clone(),
        };
        let [first, second] = relation.arguments.each_ref().map(name);
        let _ = writeln!(text, "{id}\t{}\t{first}\t{second}", line(&relation.kind));
    }
    Ok(text)
}

fn infons_of(one: &Predicted) -> [(&'static str, String); 3] {
    [
        ("type", one.label.to_owned()),
        ("probability", format!("{:.4}", one.probability)),
        ("model", one.model.to_owned()),
    ]
}

/// Identifiers of relations that the document does not have yet.
fn fresh_ids(document: &Document, prefix: &str) -> impl Iterator<Item = String> {
    let taken: Vec<String> = document.relations.iter().map(|relation| relation.id.clone()).collect();
    let prefix = prefix.to_owned();
    (1..).map(move |number| format!("{prefix}{number}")).filter(move |id| !taken.contains(id))
}

/// The identifiers by which BioC's relations name their mentions.
fn named<'a>(document: &'a Document, predicted: &[Predicted]) -> Result<Vec<[&'a str; 2]>> {
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

fn bioc_json(document: &Document, predicted: &[Predicted], kept: Option<&str>) -> Result<String> {
    let mut value: Value = match kept {
        Some(raw) => serde_json::from_str(raw)
            .map_err(|error| Error::corpus(&document.origin.path, format!("cannot be written again: {error}")))?,
        None => {
            let passages: Vec<Value> = document
                .passages
                .iter()
                .enumerate()
                .map(|(number, passage)| {
                    let own = document.mentions.iter().filter(|mention| mention.passage == Some(number));
                    json!({
                        "offset": passage.start,
                        "infons": {"type": passage.kind},
                        "text": passage.text,
                        "sentences": [],
                        "annotations": own.map(annotation).collect::<Vec<_>>(),
                        "relations": [],
                    })
                })
                .collect();
            let relations: Vec<Value> = document.relations.iter().map(|relation| {
                let (infons, nodes) = arguments(document, &relation.arguments);
                let mut all = Map::from_iter([("type".to_owned(), json!(relation.kind))]);
                all.extend(infons.into_iter().map(|(key, value)| (key.to_owned(), json!(value))));
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
    } else if let Some(raw) = kept {
        return Ok(raw.to_owned());
    }
    Ok(value.to_string())
}

fn annotation(mention: &Mention) -> Value {
    let mut infons = Map::from_iter([("type".to_owned(), json!(mention.kind))]);
    if !mention.identifiers.is_empty() {
        infons.insert("identifier".to_owned(), json!(mention.identifiers.join(";")));
    }
    let place = |span: &Span| json!({"offset": span.start, "length": span.len()});
    let places: Vec<Value> = mention.spans.iter().map(place).collect();
    json!({"id": mention.id, "infons": infons, "text": mention.text, "locations": places})
}

/// Keys and values.
type Infons = Vec<(&'static str, String)>;
/// Identifiers of annotations, with their roles.
type Nodes = Vec<(String, &'static str)>;

/// A relation's arguments, as infons for concepts and as nodes for mentions.
fn arguments(document: &Document, arguments: &[Argument; 2]) -> (Infons, Nodes) {
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

/// Text for an XML file; what XML cannot hold becomes U+FFFD.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#13;"),
            '\t' | '\n' => out.push(character),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            _ => out.push(character),
        }
    }
    out
}

fn xml_relation(id: &str, infons: &[(&str, String)], nodes: &[(String, &str)]) -> String {
    let mut text = format!("<relation id=\"{}\">", escape(id));
    for (key, value) in infons {
        let _ = write!(text, "<infon key=\"{}\">{}</infon>", escape(key), escape(value));
    }
    for (refid, role) in nodes {
        let _ = write!(text, "<node refid=\"{}\" role=\"{}\"/>", escape(refid), escape(role));
    }
    text + "</relation>"
}

fn bioc_xml(document: &Document, predicted: &[Predicted], kept: Option<&str>) -> Result<String> {
    let mut ids = fresh_ids(document, "biorel");
    let mut added = String::new();
    for (one, [first, second]) in predicted.iter().zip(named(document, predicted)?) {
        let nodes = [(first.to_owned(), "Arg1"), (second.to_owned(), "Arg2")];
        added += &xml_relation(&ids.next().unwrap_or_default(), &infons_of(one), &nodes);
    }
    if let Some(raw) = kept {
        let end = raw.rfind("</").unwrap_or(raw.len());
        return Ok(format!("{}{added}{}", &raw[..end], &raw[end..]));
    }
    let mut text = format!("<document><id>{}</id>", escape(&document.id));
    for (number, passage) in document.passages.iter().enumerate() {
        let _ = write!(
            text,
            "<passage><infon key=\"type\">{}</infon><offset>{}</offset><text>{}</text>",
            escape(&passage.kind),
            passage.start,
            escape(&passage.text)
        );
        for mention in document.mentions.iter().filter(|mention| mention.passage == Some(number)) {
            let _ = write!(
                text,
                "<annotation id=\"{}\"><infon key=\"type\">{}</infon>",
                escape(&mention.id),
                escape(&mention.kind)
            );
            if !mention.identifiers.is_empty() {
                let _ = write!(text, "<infon key=\"identifier\">{}</infon>", escape(&mention.identifiers.join(";")));
            }
            for span in &mention.spans {
                let _ = write!(text, "<location offset=\"{}\" length=\"{}\"/>", span.start, span.len());
            }
            let _ = write!(text, "<text>{}</text></annotation>", escape(&mention.text));
        }
        text += "</passage>";
    }
    for relation in &document.relations {
        let (more, nodes) = arguments(document, &relation.arguments);
        let infons: Vec<(&str, String)> = [("type", relation.kind.clone())].into_iter().chain(more).collect();
        text += &xml_relation(&relation.id, &infons, &nodes);
    }
    Ok(text + &added + "</document>")
}

/// brat's annotation. A relation between concepts has no form there, and is left to the file it came from.
fn brat(document: &Document, predicted: &[Predicted], kept: Option<&str>) -> Result<String> {
    let mut text = match kept {
        Some(raw) if raw.is_empty() || raw.ends_with('\n') => raw.to_owned(),
        Some(raw) => format!("{raw}\n"),
        None => {
            let mut end = 0;
            for passage in &document.passages {
                if passage.start < end {
                    let message = "its passages overlap, so that their offsets have no place in one text";
                    return Err(Error::corpus(format!("document {}", document.id), message));
                }
                end = passage.start + passage.text.chars().count();
            }
            let mut text = String::new();
            let mut normal = 0;
            for (number, mention) in document.mentions.iter().enumerate() {
                let places: Vec<String> =
                    mention.spans.iter().map(|span| format!("{} {}", span.start, span.end)).collect();
                let slices: Vec<&str> = mention.spans.iter().filter_map(|&span| document.slice(span)).collect();
                let kind = word(&mention.kind);
                let stands = slices.join(" ").replace(['\n', '\r', '\t'], " ");
                let _ = writeln!(text, "T{}\t{kind} {}\t{stands}", number + 1, places.join(";"));
                for identifier in &mention.identifiers {
                    normal += 1;
                    let _ = writeln!(text, "N{normal}\tReference T{} {}\t{stands}", number + 1, word(identifier));
                }
            }
            for (number, relation) in document.relations.iter().enumerate() {
                if let [Argument::Mention(first), Argument::Mention(second)] = relation.arguments {
                    let (kind, first, second) = (word(&relation.kind), first + 1, second + 1);
                    let _ = writeln!(text, "R{}\t{kind} Arg1:T{first} Arg2:T{second}", number + 1);
                }
            }
            text
        }
    };
    // The relations with an event, which are not read, have numbers too.
    let first = text.lines().filter_map(|line| line.strip_prefix('R')?.split('\t').next()?.parse::<usize>().ok()).max();
    let name = |index: usize| match kept {
        Some(_) => document.mentions[index].id.clone(),
        None => format!("T{}", index + 1),
    };
    for (number, one) in predicted.iter().enumerate() {
        let id = first.unwrap_or(0) + number + 1;
        let [first, second] = one.mentions.map(name);
        let _ = writeln!(text, "R{id}\t{} Arg1:{first} Arg2:{second}", word(one.label));
        let _ = writeln!(text, "#{id}\tAnnotatorNotes R{id}\t{:.4} {}", one.probability, one.model);
    }
    Ok(text)
}

/// A name without blanks, as brat's have to be.
fn word(text: &str) -> String {
    let joined: String = text.chars().map(|c| if c.is_whitespace() { '_' } else { c }).collect();
    if joined.is_empty() { "entity".to_owned() } else { joined }
}
