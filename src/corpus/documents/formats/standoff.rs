//! Standoff annotation: lines about a text in a file of its own, as in brat and in the BioNLP shared
//! tasks.
//!
//! ```text
//! T1<TAB>Chemical 0 7<TAB>aspirin
//! T2<TAB>Disease 20 25;31 37<TAB>heart arrest
//! R1<TAB>Causes Arg1:T1 Arg2:T2
//! E1<TAB>Binding:T3 Theme:T1 Theme2:T2
//! N1<TAB>Reference T1 MESH:D001241<TAB>aspirin
//! ```
//! Equivalences (`*`), attributes (`A`, `M`) and notes (`#`) are not relations of two mentions; they
//! are reported as skipped.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::corpus::FindingKind;
use crate::corpus::documents::document::{Argument, Document, Mention, Passage, Relation};
use crate::corpus::documents::offsets::{Converter, OffsetUnit, written};
use crate::corpus::files::lines;
use crate::{Error, Result};

/// A `T` line.
struct Row<'a> {
    path: &'a Path,
    line: usize,
    id: &'a str,
    entity_type: &'a str,
    segments: Vec<(usize, usize)>,
    text: &'a str,
}

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Events {
    /// It is skipped and reported.
    Skip,
    /// One with exactly two arguments, both mentions, is a relation of its type.
    Relate,
}

/// The document of a text and its annotation, which may be in several files.
pub(super) fn parse(id: String, text: String, files: &[(&Path, &str)], events: Events) -> Result<Document> {
    let mut document = Document { id, ..Document::default() };
    let mut rows: Vec<Row> = Vec::new();
    let mut by_id: HashMap<&str, usize> = HashMap::new();
    let mut other_lines: Vec<(&Path, usize, &str, &str)> = Vec::new();
    let all = files.iter().flat_map(|(path, raw)| lines(raw).map(move |(number, line)| (*path, number, line)));
    for (path, number, line) in all {
        let fail = |message: String| Error::corpus_line(path, number, message);
        let (id, rest) = line.split_once('\t').ok_or_else(|| fail("has no tab after the identifier".into()))?;
        if !id.starts_with('T') {
            other_lines.push((path, number, id, rest));
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
        rows.push(Row { path, line: number, id, entity_type, segments, text: mention });
    }
    let (text, unit, found) = locate(text, &rows, &mut document);
    for (row, spans) in rows.iter().zip(found) {
        let Some(spans) = spans else {
            let found = Converter::new(&text, OffsetUnit::Characters).found(&row.segments);
            let message =
                format!("{} has offsets {}, {found}, but its text is `{}`", row.id, written(&row.segments), row.text);
            return Err(Error::corpus_line(row.path, row.line, message));
        };
        let (id, entity_type, text) = (row.id.to_owned(), row.entity_type.to_owned(), row.text.to_owned());
        document.mentions.push(Mention { id, entity_type, text, identifiers: Vec::new(), spans, passage: Some(0) });
    }
    if let Some(reason) = unit.reason() {
        document.note(FindingKind::Repaired, "offsets", reason);
    }
    for (path, number, id, rest) in other_lines {
        let fail = |message: String| Error::corpus_line(path, number, message);
        let mention = |name: &str| {
            by_id.get(name).copied().ok_or_else(|| fail(format!("{id} names {name}, which is not in the file")))
        };
        // `Role:T1`. `None` if the argument is an event.
        let argument = |word: &str| {
            let (_, name) = word.split_once(':').ok_or_else(|| fail(format!("{id}: `{word}` is not `Role:T1`")))?;
            match name.starts_with('E') {
                true => Ok(None),
                false => mention(name).map(Some),
            }
        };
        let words: Vec<&str> = rest.split_whitespace().collect();
        match id.chars().next() {
            Some('R') => {
                let [relation_type, first, second] = words.as_slice() else {
                    return Err(fail(format!("{id}: `{rest}` is not `Type Arg1:T1 Arg2:T2`")));
                };
                match (argument(first)?, argument(second)?) {
                    (Some(first), Some(second)) => {
                        let arguments = [Argument::Mention(first), Argument::Mention(second)];
                        document.relations.push(Relation::new(id, *relation_type, arguments));
                    }
                    _ => document.note(FindingKind::Skipped, id, "a relation with an event as argument"),
                }
            }
            Some('N') => {
                // brat: `Reference T1 MESH:D1`; BioNLP: `NCBI_Taxonomy Annotation:T1 Referent:562`.
                if let [_, name, identifier, ..] = words.as_slice() {
                    let name = name.strip_prefix("Annotation:").unwrap_or(name);
                    let identifier = identifier.strip_prefix("Referent:").unwrap_or(identifier);
                    if name.starts_with('T') {
                        document.mentions[mention(name)?].identifiers.push(identifier.to_owned());
                    }
                }
            }
            Some('E') if events == Events::Relate => {
                let Some((head, rest)) = words.split_first() else {
                    return Err(fail(format!(
                        "{id}: an event has a type and arguments, such as `Binding:T3 Theme:T1`"
                    )));
                };
                // `Binding:T3`, or without a trigger `Lives_In`.
                let (event_type, trigger) = head.split_once(':').map_or((*head, None), |(name, at)| (name, Some(at)));
                if let Some(trigger) = trigger {
                    mention(trigger)?;
                }
                let arguments = rest.iter().map(|word| argument(word)).collect::<Result<Vec<_>>>()?;
                match arguments.as_slice() {
                    [Some(first), Some(second)] => {
                        let arguments = [Argument::Mention(*first), Argument::Mention(*second)];
                        let attributes = trigger.map(|name| ("trigger".to_owned(), name.to_owned()));
                        let attributes = attributes.into_iter().collect();
                        document.relations.push(Relation { attributes, ..Relation::new(id, event_type, arguments) });
                    }
                    [Some(_)] => document.note(FindingKind::Skipped, id, "an event of one mention"),
                    _ if arguments.contains(&None) => {
                        document.note(FindingKind::Skipped, id, "an event with an event as argument");
                    }
                    _ => document.note(FindingKind::Skipped, id, "an event that is not one of two mentions"),
                }
            }
            Some('E') => document.note(FindingKind::Skipped, id, "an event; only relations of two mentions are read"),
            Some('*') => document.note(FindingKind::Skipped, id, "an equivalence"),
            Some('A' | 'M') => document.note(FindingKind::Skipped, id, "an attribute"),
            Some('#') => document.note(FindingKind::Skipped, id, "a note"),
            _ => {
                return Err(fail(format!("`{id}` is not an identifier of an annotation (T, R, E, N, A, M, *, #)")));
            }
        }
    }
    document.passages = vec![Passage { passage_type: String::new(), start: 0, text, sentence: false }];
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

/// The lines of the mentions (`T`) and their concepts (`N`), numbered from 1.
pub(super) fn mention_lines(document: &Document) -> Result<String> {
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
        let offsets: Vec<String> = mention.spans.iter().map(|span| format!("{} {}", span.start, span.end)).collect();
        let slices: Vec<&str> = mention.spans.iter().filter_map(|&span| document.slice(span)).collect();
        let entity_type = word(&mention.entity_type);
        let mention_text = slices.join(" ").replace(['\n', '\r', '\t'], " ");
        let _ = writeln!(text, "T{}\t{entity_type} {}\t{mention_text}", number + 1, offsets.join(";"));
        for identifier in &mention.identifiers {
            normal += 1;
            let _ = writeln!(text, "N{normal}\tReference T{} {}\t{mention_text}", number + 1, word(identifier));
        }
    }
    Ok(text)
}

/// The lines of the relations of mentions (`R`). A relation between concepts cannot be represented.
pub(super) fn relation_lines(document: &Document) -> String {
    let mut text = String::new();
    for (number, relation) in document.relations.iter().enumerate() {
        if let [Argument::Mention(first), Argument::Mention(second)] = relation.arguments {
            let (relation_type, first, second) = (word(&relation.relation_type), first + 1, second + 1);
            let _ = writeln!(text, "R{}\t{relation_type} Arg1:T{first} Arg2:T{second}", number + 1);
        }
    }
    text
}

/// The highest number of a relation in an annotation: relations that are not read have numbers too.
pub(super) fn last_relation(annotation: &str) -> usize {
    let numbers = annotation.lines().filter_map(|line| line.strip_prefix('R')?.split('\t').next()?.parse().ok());
    numbers.max().unwrap_or(0)
}

/// A name without white space, as the format requires.
pub(super) fn word(text: &str) -> String {
    let joined: String = text.chars().map(|c| if c.is_whitespace() { '_' } else { c }).collect();
    if joined.is_empty() { "entity".to_owned() } else { joined }
}
