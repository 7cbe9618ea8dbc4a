//! PubTator's text format.
//!
//! ```text
//! 1000001|t|Title.
//! 1000001|a|Abstract.
//! 1000001<TAB>0<TAB>7<TAB>aspirin<TAB>Chemical<TAB>MESH:D001241
//! 1000001<TAB>CID<TAB>D001241<TAB>D006471
//! ```
//!
//! The abstract starts one character after the title. A mention's identifier may be missing, and
//! there may be another column (the parts of a composite mention), which is not read. Relations are
//! between concepts, not mentions; the values of further columns are attributes: BioRED's fifth is
//! the `novelty`. `@12-19` as an argument is the mention at those characters; it is written for a
//! mention without identifier.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::corpus::documents::concepts::split_fields;
use crate::corpus::documents::document::{Argument, Document, Mention, Origin, Passage, Predicted, Relation};
use crate::corpus::documents::inputs::DocumentFormat;
use crate::corpus::documents::offsets::{Converter, DISCONTINUOUS, OffsetUnit, written};
use crate::corpus::documents::records::Record;
use crate::corpus::files::lines;
use crate::corpus::{FindingKind, Span};
use crate::{Error, Result};

/// Names and values.
type Attributes = Vec<(String, String)>;

/// A line about a mention.
struct Row<'a> {
    line: usize,
    segment: (usize, usize),
    text: &'a str,
    entity_type: &'a str,
    concepts: &'a str,
}

pub(super) fn parse(record: Record) -> Result<Document> {
    let raw = Record::decode(record.raw, &record.path, record.line)?;
    let mut id: Option<&str> = None;
    let (mut title, mut body): (Option<&str>, Option<&str>) = (None, None);
    let mut rows: Vec<Row> = Vec::new();
    let mut relations: Vec<(&str, [&str; 2], Attributes)> = Vec::new();
    let mut ends: Vec<(usize, &str, usize, &str)> = Vec::new();
    for (number, line) in lines(&raw) {
        let number = record.line + number - 1;
        let fail = |message: String| Err(Error::corpus_line(&*record.path, number, message));
        let bar = line.find(['|', '\t']).unwrap_or(line.len());
        let own = line[..bar].trim();
        match id {
            None => id = Some(own),
            Some(id) if id == own => {}
            Some(id) => {
                return fail(format!(
                    "the line is of document `{own}`, in the middle of document {id}; a blank line must separate documents"
                ));
            }
        }
        let rest = &line[bar..];
        if let Some(text) = rest.strip_prefix("|t|") {
            if title.replace(text).is_some() {
                return fail(format!("document {own} has a second title"));
            }
            continue;
        } else if let Some(text) = rest.strip_prefix("|a|") {
            if body.replace(text).is_some() {
                return fail(format!("document {own} has a second abstract"));
            }
            continue;
        }
        let cells: Vec<&str> = line.split('\t').collect();
        let number_of = |cell: usize| cells.get(cell).and_then(|cell| cell.trim().parse::<usize>().ok());
        match (number_of(1), number_of(2)) {
            (Some(start), Some(end)) if cells.len() >= 5 => rows.push(Row {
                line: number,
                segment: (start, end),
                text: cells[3],
                entity_type: cells[4].trim(),
                concepts: cells.get(5).copied().unwrap_or_default(),
            }),
            (None, _) if cells.len() >= 4 && !cells[1].trim().is_empty() => {
                if let (Some(end), [_, start, _, text, _, ..]) = (number_of(2), cells.as_slice()) {
                    ends.push((number, start, end, text));
                }
                relations.push((cells[1].trim(), [cells[2].trim(), cells[3].trim()], attributes(&cells[4..])));
            }
            _ => {
                return fail(
                    "is neither a title (`id|t|..`), an abstract (`id|a|..`), a mention (id, start, end, text, type, \
                     identifier) nor a relation (id, type, first, second), with tabs between"
                        .into(),
                );
            }
        }
    }
    let id = id.unwrap_or_default().to_owned();
    let Some(title) = title else {
        return Err(Error::corpus_line(
            &*record.path,
            record.line,
            format!("document `{id}` has no title (`id|t|..`)"),
        ));
    };
    if id.is_empty() {
        return Err(Error::corpus_line(&*record.path, record.line, "the document has no identifier before `|t|`"));
    }
    let text = body.map_or_else(|| title.to_owned(), |body| format!("{title} {body}"));
    // A relation's first argument may be a number, such as that of a gene. A start that is a number, or the
    // text before the number, shows a mention.
    for (line, start, end, mention) in ends {
        let before = text.char_indices().nth(end).map_or(text.as_str(), |(byte, _)| &text[..byte]);
        let is_mention = !mention.is_empty() && end <= text.chars().count() && before.ends_with(mention);
        if is_mention || start.trim().parse::<f64>().is_ok() {
            let message = format!(
                "document {id}: the mention `{mention}` starts at `{start}`, which is not a whole number from 0"
            );
            return Err(Error::corpus_line(&*record.path, line, message));
        }
    }
    let fits = |unit: OffsetUnit| {
        let converter = Converter::new(&text, unit);
        rows.iter().map(|row| converter.fit(&[row.segment], Some(row.text))).collect::<Vec<_>>()
    };
    let mut found = fits(OffsetUnit::Characters);
    let mut unit = OffsetUnit::Characters;
    if found.contains(&None) && !text.is_ascii() {
        for other in [OffsetUnit::Utf16, OffsetUnit::Bytes] {
            let all = fits(other);
            if !all.contains(&None) {
                (found, unit) = (all, other);
                break;
            }
        }
    }
    let mut discontinuous = Vec::new();
    if found.contains(&None) {
        let converter = Converter::new(&text, OffsetUnit::Characters);
        for ((number, row), position) in
            rows.iter().enumerate().zip(&mut found).filter(|(_, position)| position.is_none())
        {
            *position = converter.fit_discontinuous(row.segment, row.text);
            discontinuous.push(number);
        }
    }
    let body_start = title.chars().count() + 1;
    let passage = |passage_type: &str, start, text: &str| Passage {
        passage_type: passage_type.into(),
        start,
        text: text.into(),
        sentence: false,
    };
    let mut document = Document { id: id.clone(), ..Document::default() };
    document.passages = vec![passage("title", 0, title)];
    if let Some(body) = body {
        document.passages.push(passage("abstract", body_start, body));
    }
    if let Some(reason) = unit.reason() {
        document.note(FindingKind::Repaired, "offsets", reason);
    }
    let fields: Vec<String> = rows.iter().map(|row| row.concepts.to_owned()).collect();
    let arguments: Vec<&str> = relations.iter().flat_map(|(_, arguments, _)| *arguments).collect();
    let concepts = split_fields(&fields, &arguments);
    for (index, ((row, spans), identifiers)) in rows.iter().zip(found).zip(concepts).enumerate() {
        let Some(spans) = spans else {
            let found = Converter::new(&text, OffsetUnit::Characters).found(&[row.segment]);
            let message = format!(
                "document {id}: a mention has offsets {}, {found}, but its text is `{}`",
                written(&[row.segment]),
                row.text
            );
            return Err(Error::corpus_line(&*record.path, row.line, message));
        };
        let bounds = Span::bounding(&spans);
        let passage = match (bounds.end < body_start, bounds.start >= body_start) {
            (true, _) => Some(0),
            (_, true) => Some(1),
            _ => None,
        };
        if discontinuous.contains(&index) {
            document.note(FindingKind::Repaired, &format!("T{}", index + 1), DISCONTINUOUS);
        }
        let (entity_type, text) = (row.entity_type.to_owned(), row.text.to_owned());
        document.mentions.push(Mention {
            id: format!("T{}", index + 1),
            entity_type,
            text,
            identifiers,
            spans,
            passage,
        });
    }
    for (index, (relation_type, arguments, attributes)) in relations.into_iter().enumerate() {
        let arguments = arguments.map(|argument| argument_of(argument, &document));
        let relation = Relation::new(format!("R{}", index + 1), relation_type, arguments);
        document.relations.push(Relation { attributes, ..relation });
    }
    let path = record.path.to_path_buf();
    document.origin =
        Origin { path, line: record.line, raw: Some((DocumentFormat::Pubtator, raw)), header: String::new() };
    Ok(document)
}

/// The attributes in the columns of a relation after its arguments.
fn attributes(cells: &[&str]) -> Attributes {
    let name = |column: usize, value: &str| match column {
        5 if matches!(value, "Novel" | "No") => "novelty".to_owned(),
        _ => format!("column{column}"),
    };
    let cells = cells.iter().map(|cell| cell.trim()).enumerate().filter(|(_, cell)| !cell.is_empty());
    cells.map(|(number, cell)| (name(number + 5, cell), cell.to_owned())).collect()
}

fn argument_of(written: &str, document: &Document) -> Argument {
    let position = written.strip_prefix('@').and_then(|position| position.split_once('-'));
    let position = position.and_then(|(start, end)| Some((start.parse::<usize>().ok()?, end.parse::<usize>().ok()?)));
    let at = |mention: &Mention| Some((mention.bounding_span().start, mention.bounding_span().end)) == position;
    match document.mentions.iter().position(at).filter(|_| position.is_some()) {
        Some(index) => Argument::Mention(index),
        None => Argument::Concept(written.to_owned()),
    }
}

/// The lines of added relations in PubTator's format, without the document: identifier, label, the
/// two concepts, probability, model. There is one line for each relation of two concepts, with the
/// highest probability among the pairs of their mentions.
pub fn relation_lines(document: &Document, predicted: &[Predicted], end: &str) -> String {
    let mut lines: BTreeMap<(&str, String, String), (f32, &str)> = BTreeMap::new();
    for one in predicted {
        let [firsts, seconds] = [0, 1].map(|side| match one.concepts {
            Some(concepts) => vec![concepts[side].to_owned()],
            None => document.concepts_of(one.mentions[side]),
        });
        for first in &firsts {
            for second in seconds.clone() {
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

/// The lines of the document and of its relations, and a blank line.
pub(super) fn write(document: &Document, predicted: &[Predicted], original: Option<&str>) -> Result<String> {
    // The last line may lack its line end or have only the `\r` of it; any other `\r` is text.
    let body =
        original.map(|raw| raw.strip_suffix('\n').unwrap_or(raw)).map(|raw| raw.strip_suffix('\r').unwrap_or(raw));
    let returns = original.is_some_and(|raw| raw.contains("\r\n")) || body.is_some_and(|body| body.ends_with('\r'));
    let end = if returns { "\r\n" } else { "\n" };
    let text = match body {
        Some(body) => format!("{body}{end}"),
        None => lines_of(document)?,
    };
    Ok(text + &relation_lines(document, predicted, end) + end)
}

/// A document from another format: its first passage becomes the title, the others the abstract.
fn lines_of(document: &Document) -> Result<String> {
    let id = &document.id;
    if id.is_empty() || id.contains(['|', '\t', '\n', '\r']) {
        let message = "PubTator's format cannot represent this identifier; give the document another one";
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
            let message =
                format!("mention {} extends over two passages, which PubTator's format cannot represent", mention.id);
            return Err(Error::corpus(format!("document {id}"), message));
        };
        let bounds = mention.bounding_span();
        let own = document.passages[passage].start;
        let (start, end) = (bounds.start - own + starts[passage], bounds.end - own + starts[passage]);
        let mention_text = line(document.slice(bounds).unwrap_or_default());
        let _ = write!(text, "{id}\t{start}\t{end}\t{mention_text}\t{}", line(&mention.entity_type));
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
                let bounds = mention.bounding_span();
                format!("@{}-{}", bounds.start - own + at, bounds.end - own + at)
            }
            Argument::Concept(name) => name.clone(),
        };
        let [first, second] = relation.arguments.each_ref().map(name);
        let _ = write!(text, "{id}\t{}\t{first}\t{second}", line(&relation.relation_type));
        // Other attributes have no column of their own.
        match relation.attribute("novelty") {
            Some(novelty) => {
                let _ = writeln!(text, "\t{}", line(novelty));
            }
            None => text.push('\n'),
        }
    }
    Ok(text)
}
