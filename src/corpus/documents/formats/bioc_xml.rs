//! BioC in XML.

use std::fmt::Write as _;
use std::path::Path;

use roxmltree::Node;

use super::bioc::{arguments, attributes, fresh_ids, infons_of, named};
use super::bioc_record::{Annotation, Bioc, BiocPassage, BiocRelation};
use crate::corpus::documents::document::{Document, Origin, Predicted};
use crate::corpus::documents::inputs::DocumentFormat;
use crate::corpus::documents::records::Record;
use crate::corpus::xml::{self, children};
use crate::{Error, Result};

pub(super) fn parse(record: Record) -> Result<Document> {
    let raw = Record::decode(record.raw, &record.path, record.line)?;
    let shift = |error: Error| match error {
        Error::Corpus { path, line: Some(line), message } => Error::corpus_line(path, record.line + line - 1, message),
        error => error,
    };
    let mut document = read(&record.path, &raw).map_err(shift)?;
    let (path, header) = (record.path.to_path_buf(), record.header.to_string());
    document.origin = Origin { path, line: record.line, raw: Some((DocumentFormat::BiocXml, raw)), header };
    Ok(document)
}

/// The document; errors have the line in the record.
fn read(path: &Path, raw: &str) -> Result<Document> {
    let parsed = xml::parse(path, raw)?;
    let root = parsed.root_element();
    let fail = |at: usize, message: String| Error::corpus_line(path, parsed.text_pos_at(at).row as usize, message);
    let id = child_text(root, "id").map(|id| id.trim().to_owned()).filter(|id| !id.is_empty());
    let id = id.ok_or_else(|| fail(0, "the <document> has no <id>".into()))?;
    let mut bioc = Bioc { id: id.clone(), ..Bioc::default() };
    for node in children(root, "passage") {
        passage(node, false, &mut bioc).map_err(|(at, message)| fail(at, format!("document {id}: {message}")))?;
    }
    relations(root, &mut bioc);
    bioc.into_document(fail)
}

type Parsed<T> = std::result::Result<T, (usize, String)>;

fn passage(node: Node, sentence: bool, bioc: &mut Bioc) -> Parsed<()> {
    let at = node.range().start;
    let offset = child_text(node, "offset").and_then(|text| text.trim().parse::<usize>().ok());
    let name = node.tag_name().name();
    let offset = offset.ok_or_else(|| (at, format!("a <{name}> has no <offset>, a whole number from 0")))?;
    let infons = infons(node);
    let passage_type = ["type", "section_type"].iter().find_map(|key| infons.iter().find(|(known, _)| known == key));
    let passage_type = passage_type.map(|(_, value)| value.clone()).unwrap_or_default();
    let mut sentences = 0;
    for inner in children(node, "sentence") {
        passage(inner, true, bioc)?;
        sentences += 1;
        if let Some(last) = bioc.passages.last_mut()
            && last.passage_type.is_empty()
        {
            last.passage_type.clone_from(&passage_type);
        }
    }
    let text = child_text(node, "text").unwrap_or_default();
    let holder = (sentences == 0 || !text.is_empty()).then(|| {
        bioc.passages.push(BiocPassage { passage_type, offset, text, sentence, duplicate: sentences > 0 });
        bioc.passages.len() - 1
    });
    for node in children(node, "annotation") {
        annotation(node, holder, bioc)?;
    }
    relations(node, bioc);
    Ok(())
}

fn annotation(node: Node, passage: Option<usize>, bioc: &mut Bioc) -> Parsed<()> {
    let (id, at) = (node.attribute("id").unwrap_or_default().to_owned(), node.range().start);
    let mut segments = Vec::new();
    for location in children(node, "location") {
        let number = |name| location.attribute(name).and_then(|text| text.trim().parse::<usize>().ok());
        let (Some(offset), Some(length)) = (number("offset"), number("length")) else {
            let message = format!("annotation {id}: a <location> has no `offset` and `length`, whole numbers from 0");
            return Err((location.range().start, message));
        };
        segments.push((offset, length));
    }
    let text = child_text(node, "text");
    bioc.annotations.push(Annotation { id, infons: infons(node), segments, text, passage, at });
    Ok(())
}

fn relations(node: Node, bioc: &mut Bioc) {
    for relation in children(node, "relation") {
        let id = relation.attribute("id").map(str::to_owned);
        let id = id.unwrap_or_else(|| format!("R{}", bioc.relations.len() + 1));
        let nodes = children(relation, "node").filter_map(|node| node.attribute("refid").map(str::to_owned)).collect();
        bioc.relations.push(BiocRelation { id, infons: infons(relation), nodes, at: relation.range().start });
    }
}

/// The text of a child element, all its parts joined.
fn child_text(node: Node, name: &'static str) -> Option<String> {
    let child = children(node, name).next()?;
    Some(child.descendants().filter(Node::is_text).filter_map(|piece| piece.text()).collect())
}

fn infons(node: Node) -> Vec<(String, String)> {
    let pair = |infon: Node| {
        let text = infon.descendants().filter(Node::is_text).filter_map(|piece| piece.text()).collect();
        Some((infon.attribute("key")?.to_owned(), text))
    };
    children(node, "infon").filter_map(pair).collect()
}

/// Escape a text for XML. Characters that XML 1.0 cannot represent become U+FFFD.
///
/// Ours, because quick-xml's `escape` leaves those in place, which makes the file malformed, and
/// `\r` too, which a parser reads as `\n`, so that offsets would no longer fit.
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

pub(super) fn write(document: &Document, predicted: &[Predicted], original: Option<&str>) -> Result<String> {
    let mut ids = fresh_ids(document, "biorel");
    let mut added = String::new();
    for (one, [first, second]) in predicted.iter().zip(named(document, predicted)?) {
        let nodes = [(first.to_owned(), "Arg1"), (second.to_owned(), "Arg2")];
        added += &xml_relation(&ids.next().unwrap_or_default(), &infons_of(one), &nodes);
    }
    if let Some(raw) = original {
        let end = raw.rfind("</").unwrap_or(raw.len());
        return Ok(format!("{}{added}{}", &raw[..end], &raw[end..]));
    }
    let mut text = format!("<document><id>{}</id>", escape(&document.id));
    for (number, passage) in document.passages.iter().enumerate() {
        let _ = write!(
            text,
            "<passage><infon key=\"type\">{}</infon><offset>{}</offset><text>{}</text>",
            escape(&passage.passage_type),
            passage.start,
            escape(&passage.text)
        );
        for mention in document.mentions.iter().filter(|mention| mention.passage == Some(number)) {
            let _ = write!(
                text,
                "<annotation id=\"{}\"><infon key=\"type\">{}</infon>",
                escape(&mention.id),
                escape(&mention.entity_type)
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
        let infons = [("type", relation.relation_type.clone())].into_iter().chain(more).chain(attributes(relation));
        let infons: Vec<(&str, String)> = infons.collect();
        text += &xml_relation(&relation.id, &infons, &nodes);
    }
    Ok(text + &added + "</document>")
}

/// A collection of documents from [`write`]; `header` is the original file before the first
/// document.
pub(super) fn collection(header: &str, documents: &[String]) -> String {
    let start = if header.contains("<collection") {
        header.to_owned()
    } else {
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<collection><source></source><date></date><key></key>\n".to_owned()
    };
    format!("{start}{}\n</collection>\n", documents.join("\n"))
}
