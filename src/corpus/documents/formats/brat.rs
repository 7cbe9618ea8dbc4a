//! brat's standoff format: a text file, and an annotation file with a line per mention (`T`),
//! relation (`R`) and normalisation (`N`).
//!
//! ```text
//! T1<TAB>Chemical 0 7<TAB>aspirin
//! T2<TAB>Disease 20 25;31 37<TAB>heart arrest
//! R1<TAB>Causes Arg1:T1 Arg2:T2
//! N1<TAB>Reference T1 MESH:D001241<TAB>aspirin
//! ```
//! Events (`E`), equivalences (`*`), attributes (`A`, `M`) and notes (`#`) are not relations of two
//! mentions; they are reported as skipped.

use std::collections::HashMap;
use std::fmt::Write as _;

use crate::corpus::FindingKind;
use crate::corpus::documents::document::{Argument, Document, Mention, Origin, Passage, Predicted, Relation};
use crate::corpus::documents::inputs::DocumentFormat;
use crate::corpus::documents::offsets::{Converter, OffsetUnit, written};
use crate::corpus::documents::records::Record;
use crate::corpus::files::lines;
use crate::{Error, Result};

/// A `T` line.
struct Row<'a> {
    line: usize,
    id: &'a str,
    entity_type: &'a str,
    segments: Vec<(usize, usize)>,
    text: &'a str,
}

pub(super) fn parse(record: Record) -> Result<Document> {
    let raw = Record::decode(record.raw, &record.path, record.line)?;
    let text = Record::decode(record.text.unwrap_or_default(), &record.path.with_extension("txt"), 1)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned();
    let name = record.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let mut document = Document { id: name.strip_suffix(".ann").unwrap_or(name).to_owned(), ..Document::default() };
    let mut rows: Vec<Row> = Vec::new();
    let mut by_id: HashMap<&str, usize> = HashMap::new();
    let mut other_lines: Vec<(usize, &str, &str)> = Vec::new();
    for (number, line) in lines(&raw) {
        let fail = |message: String| Error::corpus_line(&*record.path, number, message);
        let (id, rest) = line.split_once('\t').ok_or_else(|| fail("has no tab after the identifier".into()))?;
        if !id.starts_with('T') {
            other_lines.push((number, id, rest));
            continue;
        }
        let (head, mention) = rest.split_once('\t').ok_or_else(|| fail(format!("{id} has no text of the mention")))?;
        let wrong = || fail(format!("{id}: `{head}` is not `Type start end` or `Type start end;start end`"));
        let (entity_type, offsets) = head.split_once(' ').ok_or_else(wrong)?;
        let segments = offsets.split(';').map(|segment| {
            let (start, end) = segment.trim().split_once(' ')?;
            Some((start.trim().parse().ok()?, end.trim().parse().ok()?))
        });
        let segments = segments.collect::<Option<Vec<(usize, usize)>>>().ok_or_else(wrong)?;
        if by_id.insert(id, rows.len()).is_some() {
            return Err(fail(format!("{id} appears twice")));
        }
        rows.push(Row { line: number, id, entity_type, segments, text: mention });
    }
    let (text, unit, found) = locate(text, &rows, &mut document);
    for (row, spans) in rows.iter().zip(found) {
        let Some(spans) = spans else {
            let found = Converter::new(&text, OffsetUnit::Characters).found(&row.segments);
            let message =
                format!("{} has offsets {}, {found}, but its text is `{}`", row.id, written(&row.segments), row.text);
            return Err(Error::corpus_line(&*record.path, row.line, message));
        };
        let (id, entity_type, text) = (row.id.to_owned(), row.entity_type.to_owned(), row.text.to_owned());
        document.mentions.push(Mention { id, entity_type, text, identifiers: Vec::new(), spans, passage: Some(0) });
    }
    if let Some(reason) = unit.reason() {
        document.note(FindingKind::Repaired, "offsets", reason);
    }
    for (number, id, rest) in other_lines {
        let fail = |message: String| Error::corpus_line(&*record.path, number, message);
        let mention = |name: &str| {
            by_id.get(name).copied().ok_or_else(|| fail(format!("{id} names {name}, which is not in the file")))
        };
        let words: Vec<&str> = rest.split_whitespace().collect();
        match id.chars().next() {
            Some('R') => {
                let [relation_type, first, second] = words.as_slice() else {
                    return Err(fail(format!("{id}: `{rest}` is not `Type Arg1:T1 Arg2:T2`")));
                };
                let argument = |word: &str| {
                    let (_, name) =
                        word.split_once(':').ok_or_else(|| fail(format!("{id}: `{word}` is not `Role:T1`")))?;
                    match name.starts_with('E') {
                        // The argument is an event, which is not read.
                        true => Ok(None),
                        false => mention(name).map(Some),
                    }
                };
                match (argument(first)?, argument(second)?) {
                    (Some(first), Some(second)) => {
                        let arguments = [Argument::Mention(first), Argument::Mention(second)];
                        document.relations.push(Relation {
                            id: id.to_owned(),
                            relation_type: (*relation_type).to_owned(),
                            arguments,
                        });
                    }
                    _ => document.note(FindingKind::Skipped, id, "a relation with an event as argument"),
                }
            }
            Some('N') => {
                if let [_, name, identifier, ..] = words.as_slice()
                    && name.starts_with('T')
                {
                    document.mentions[mention(name)?].identifiers.push((*identifier).to_owned());
                }
            }
            Some('E') => document.note(FindingKind::Skipped, id, "an event; only relations of two mentions are read"),
            Some('*') => document.note(FindingKind::Skipped, id, "an equivalence"),
            Some('A' | 'M') => document.note(FindingKind::Skipped, id, "an attribute"),
            Some('#') => document.note(FindingKind::Skipped, id, "a note"),
            _ => return Err(fail(format!("`{id}` is not an identifier of brat (T, R, E, N, A, M, *, #)"))),
        }
    }
    document.passages = vec![Passage { passage_type: String::new(), start: 0, text, sentence: false }];
    let path = record.path.to_path_buf();
    document.origin = Origin { path, line: 1, raw: Some((DocumentFormat::Brat, raw)), header: String::new() };
    Ok(document)
}

/// The spans of the mentions, in the first interpretation that fits all of them: the text as it is,
/// in each unit, then with `\r\n` as one character, as tools count that open the file in text mode.
fn locate(
    text: String,
    rows: &[Row],
    document: &mut Document,
) -> (String, OffsetUnit, Vec<Option<Vec<crate::corpus::Span>>>) {
    let fits = |text: &str, unit: OffsetUnit| {
        let converter = Converter::new(text, unit);
        rows.iter().map(|row| converter.fit(&row.segments, Some(row.text))).collect::<Vec<_>>()
    };
    let first = fits(&text, OffsetUnit::Characters);
    if !first.contains(&None) {
        return (text, OffsetUnit::Characters, first);
    }
    for single in [false, true] {
        if single && !text.contains("\r\n") {
            break;
        }
        let changed = if single { text.replace("\r\n", "\n") } else { text.clone() };
        for unit in OffsetUnit::ALL {
            let all = fits(&changed, unit);
            if !all.contains(&None) {
                if single {
                    let reason = "offsets count a line end of two characters as one; the text is read with single ones";
                    document.note(FindingKind::Repaired, "text", reason);
                }
                return (changed, unit, all);
            }
        }
    }
    (text, OffsetUnit::Characters, first)
}

/// The annotation file. brat cannot represent a relation between concepts; it stays in the original
/// text only.
pub(super) fn write(document: &Document, predicted: &[Predicted], original: Option<&str>) -> Result<String> {
    let mut text = match original {
        Some(raw) if raw.is_empty() || raw.ends_with('\n') => raw.to_owned(),
        Some(raw) => format!("{raw}\n"),
        None => {
            let mut end = 0;
            for passage in &document.passages {
                if passage.start < end {
                    let message = "its passages overlap, so that one text cannot contain both";
                    return Err(Error::corpus(format!("document {}", document.id), message));
                }
                end = passage.start + passage.text.chars().count();
            }
            let mut text = String::new();
            let mut normal = 0;
            for (number, mention) in document.mentions.iter().enumerate() {
                let offsets: Vec<String> =
                    mention.spans.iter().map(|span| format!("{} {}", span.start, span.end)).collect();
                let slices: Vec<&str> = mention.spans.iter().filter_map(|&span| document.slice(span)).collect();
                let entity_type = word(&mention.entity_type);
                let mention_text = slices.join(" ").replace(['\n', '\r', '\t'], " ");
                let _ = writeln!(text, "T{}\t{entity_type} {}\t{mention_text}", number + 1, offsets.join(";"));
                for identifier in &mention.identifiers {
                    normal += 1;
                    let _ = writeln!(text, "N{normal}\tReference T{} {}\t{mention_text}", number + 1, word(identifier));
                }
            }
            for (number, relation) in document.relations.iter().enumerate() {
                if let [Argument::Mention(first), Argument::Mention(second)] = relation.arguments {
                    let (relation_type, first, second) = (word(&relation.relation_type), first + 1, second + 1);
                    let _ = writeln!(text, "R{}\t{relation_type} Arg1:T{first} Arg2:T{second}", number + 1);
                }
            }
            text
        }
    };
    // Relations with an event, which are not read, have numbers too.
    let first = text.lines().filter_map(|line| line.strip_prefix('R')?.split('\t').next()?.parse::<usize>().ok()).max();
    let name = |index: usize| match original {
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

/// A name without white space, as brat requires.
fn word(text: &str) -> String {
    let joined: String = text.chars().map(|c| if c.is_whitespace() { '_' } else { c }).collect();
    if joined.is_empty() { "entity".to_owned() } else { joined }
}
