//! DrugProt (BioCreative VII, track 1): rows of three tables, without a header or quoting.
//!
//! ```text
//! pmid<TAB>title<TAB>abstract
//! pmid<TAB>T1<TAB>CHEMICAL<TAB>0<TAB>7<TAB>aspirin
//! pmid<TAB>INHIBITOR<TAB>Arg1:T1<TAB>Arg2:T2
//! ```
//! Offsets count characters of the title, one separator and the abstract; ends are exclusive.

use std::fmt::Write as _;

use super::flat::{Stated, place};
use crate::corpus::documents::companion::Companion;
use crate::corpus::documents::document::{Argument, Document, Origin, Passage, Predicted, Relation};
use crate::corpus::documents::inputs::DocumentFormat;
use crate::corpus::documents::offsets::OffsetUnit;
use crate::corpus::documents::records::Record;
use crate::{Error, Result};

pub(super) fn parse(record: Record) -> Result<Document> {
    let raw = Record::decode(record.raw, &record.path, record.line)?;
    let fail = |message: String| Error::corpus_line(&*record.path, record.line, message);
    let cells: Vec<&str> = raw.trim_end_matches(['\r', '\n']).split('\t').collect();
    let [id, title, body] = cells.as_slice() else {
        return Err(fail(format!("has {} columns; a table of abstracts has 3: pmid, title, abstract", cells.len())));
    };
    if id.is_empty() {
        return Err(fail("the first column, the identifier of the document, is empty".into()));
    }
    let passage = |passage_type: &str, start: usize, text: &str| Passage {
        passage_type: passage_type.into(),
        start,
        text: text.into(),
        sentence: false,
    };
    let mut document = Document { id: (*id).to_owned(), ..Document::default() };
    document.passages = vec![passage("title", 0, title), passage("abstract", title.chars().count() + 1, body)];
    let mut companions = record.companions.iter();
    let mut entities: Vec<Stated> = Vec::new();
    let mut lines: Vec<usize> = Vec::new();
    let table = companions.next();
    for (line, row) in table.map(rows).transpose()?.unwrap_or_default() {
        let path = table.map(|table| &*table.path).unwrap_or(&record.path);
        let fail = |message: String| Error::corpus_line(path, line, message);
        let cells: Vec<&str> = row.split('\t').collect();
        let [_, name, entity_type, start, end, text] = cells.as_slice() else {
            let message = "a table of entities has 6: pmid, entity, type, start, end, text";
            return Err(fail(format!("has {} columns; {message}", cells.len())));
        };
        if entities.iter().any(|known| known.id == *name) {
            return Err(fail(format!("entity {name} of {id} appears twice")));
        }
        let offset =
            |cell: &str| cell.trim().parse().map_err(|_| fail(format!("offset `{cell}` is not a whole number")));
        entities.push(Stated {
            id: (*name).to_owned(),
            entity_type: entity_type.trim().to_owned(),
            segments: vec![(offset(start)?, offset(end)?)],
            text: Some((*text).to_owned()),
            identifiers: Vec::new(),
        });
        lines.push(line);
    }
    place(&mut document, entities, &OffsetUnit::ALL).map_err(|(number, message)| {
        let path = table.map(|table| &*table.path).unwrap_or(&record.path);
        Error::corpus_line(path, lines.get(number).copied().unwrap_or_default(), format!("document {id}: {message}"))
    })?;
    for table in companions {
        for (line, row) in rows(table)? {
            let fail = |message: String| Error::corpus_line(&*table.path, line, message);
            let cells: Vec<&str> = row.split('\t').map(str::trim).collect();
            let [_, relation_type, first, second] = cells.as_slice() else {
                let message = "a table of relations has 4: pmid, type, Arg1:.., Arg2:..";
                return Err(fail(format!("has {} columns; {message}", cells.len())));
            };
            let argument = |cell: &str, prefix: &str| {
                let name =
                    cell.strip_prefix(prefix).ok_or_else(|| fail(format!("`{cell}` does not start with {prefix}")))?;
                let index = document.mentions.iter().position(|mention| mention.id == name);
                index.map(Argument::Mention).ok_or_else(|| fail(format!("{id} has no entity {name}")))
            };
            let arguments = [argument(first, "Arg1:")?, argument(second, "Arg2:")?];
            let name = format!("R{}", document.relations.len() + 1);
            document.relations.push(Relation::new(name, *relation_type, arguments));
        }
    }
    let path = record.path.to_path_buf();
    document.origin =
        Origin { path, line: record.line, raw: Some((DocumentFormat::Drugprot, raw)), header: String::new() };
    Ok(document)
}

/// The rows of a document in a table, with their lines.
fn rows(table: &Companion) -> Result<Vec<(usize, String)>> {
    let first = table.lines.first().copied().unwrap_or(1);
    let text = Record::decode(table.raw.clone(), &table.path, first)?;
    let texts = text.split('\n').map(|row| row.trim_end_matches('\r').to_owned()).filter(|row| !row.is_empty());
    Ok(table.lines.iter().copied().zip(texts).collect())
}

/// The rows of a document in the three tables. Every document has a title and an abstract: the first
/// passage, and the others joined.
pub(super) struct Rows {
    pub(super) abstracts: String,
    pub(super) entities: String,
    pub(super) relations: String,
}

pub(super) fn write(document: &Document, predicted: &[Predicted]) -> Result<Rows> {
    let id = &document.id;
    let fail = |message: &str| Err(Error::corpus(format!("document {id}"), message));
    let line = |text: &str| text.replace(['\n', '\r', '\t'], " ");
    if id.is_empty() || id.contains(['\t', '\n', '\r']) {
        return fail("DrugProt's tables cannot represent this identifier; give the document another one");
    }
    let (mut starts, mut at) = (Vec::new(), 0);
    for passage in &document.passages {
        starts.push(at);
        at += passage.text.chars().count() + 1;
    }
    let texts: Vec<String> = document.passages.iter().map(|passage| line(&passage.text)).collect();
    let (title, body) = texts.split_first().map(|(first, rest)| (first.clone(), rest.join(" "))).unwrap_or_default();
    let (mut entities, mut relations) = (String::new(), String::new());
    for mention in &document.mentions {
        let Some(passage) = mention.passage else {
            return fail("a mention extends over two passages, which DrugProt's tables cannot represent");
        };
        let bounds = mention.bounding_span();
        let moved = |position: usize| position - document.passages[passage].start + starts[passage];
        let text = line(document.slice(bounds).unwrap_or_default());
        let (name, entity_type) = (line(&mention.id), line(&mention.entity_type));
        let _ =
            writeln!(entities, "{id}\t{name}\t{entity_type}\t{}\t{}\t{text}", moved(bounds.start), moved(bounds.end));
    }
    let mut relation = |label: &str, mentions: [usize; 2]| {
        let [first, second] = mentions.map(|index| line(&document.mentions[index].id));
        let _ = writeln!(relations, "{id}\t{}\tArg1:{first}\tArg2:{second}", line(label));
    };
    for one in &document.relations {
        let [Argument::Mention(first), Argument::Mention(second)] = one.arguments else {
            return fail("a relation between concepts, which DrugProt's tables cannot represent");
        };
        relation(&one.relation_type, [first, second]);
    }
    for one in predicted {
        relation(one.label, one.mentions);
    }
    Ok(Rows { abstracts: format!("{id}\t{title}\t{body}\n"), entities, relations })
}
