//! The two entities of a row of a user's table: at its offsets, or at the tags of a text that is
//! already anonymised.
//!
//! GAD, EU-ADR and the files of the BLUE benchmark have texts such as `The @GENE$ variant is linked
//! to @DISEASE$.` The tags are then the entities, and their words the entities' types, so that the
//! marking `typed` reproduces the text. One tag may stand for two overlapping mentions:
//! `@CHEM-GENE$`.

use std::path::Path;

use super::offsets::CharIndex;
use super::table_row::{OFFSETS, Row};
use super::tags::{find_tags, is_tag};
use super::{Finding, FindingKind, Report, Span, Task};
use crate::{Error, Result};

/// An argument of a row, found in its text.
pub(super) struct Located {
    pub(super) span: Span,
    /// The mention as the row states it, or else as it is in the text.
    pub(super) text: String,
    pub(super) entity_type: String,
    /// Whether it is a tag.
    pub(super) tag: bool,
}

/// What was read from tags.
#[derive(Default)]
pub(super) struct Tags {
    /// Types that tags state, in the order of the table.
    types: Vec<String>,
    /// Rows without offsets.
    entities: usize,
    /// Rows with offsets whose type comes from a tag.
    typed: usize,
}

impl Tags {
    fn add(&mut self, entity_type: &str) {
        if !self.types.iter().any(|known| known == entity_type) {
            self.types.push(entity_type.to_owned());
        }
    }

    /// Report what was read from tags, and map every such type to its tag, so that it is marked as
    /// it was.
    pub(super) fn report(&self, path: &Path, task: &mut Task, report: &mut Report) {
        for entity_type in &self.types {
            if task.tag(entity_type) != *entity_type {
                task.tags.insert(entity_type.clone(), entity_type.clone());
            }
        }
        let tags = self.types.iter().map(|entity_type| format!("@{entity_type}$")).collect::<Vec<_>>().join(", ");
        let mut note = |rows: usize, what: String| {
            if rows > 0 {
                let id = path.display().to_string();
                report.findings.push(Finding::new(FindingKind::Repaired, id, format!("{rows} rows: {what}")));
            }
        };
        note(self.entities, format!("no offsets; the tags in the text are the entities ({tags})"));
        note(self.typed, format!("an entity without a type gets the type of its tag in the text ({tags})"));
    }
}

/// Where the two arguments of a row are, and of which type.
pub(super) fn locate(row: &Row, task: &Task, tags: &mut Tags) -> Result<[Located; 2]> {
    let fail = |message: String| row.location.error(message);
    let index = CharIndex::new(&row.text);
    let [first, second] = &row.arguments;
    if let (Some(one), Some(other)) = (first.span, second.span) {
        let mut typed = false;
        let mut at = |span: Span, which: usize| {
            let Span { start, end } = span;
            let (name, argument) = (format!("entity{}", which + 1), &row.arguments[which]);
            if start >= end {
                return Err(fail(format!("{name}_start {start} is not before {name}_end {end}")));
            }
            let found = index.slice(span).ok_or_else(|| {
                fail(format!("{name}_end {end} is outside of the text, which has {} characters", index.len()))
            })?;
            let tag = tag_of(found).map(|tag| match two_types(tag) {
                Some(both) if one == other => both[which],
                _ => tag,
            });
            let stated = argument.text.as_deref().unwrap_or(found);
            if stated != found && tag.is_none() {
                let message =
                    format!("{name} is `{stated}`, but characters {start} to {end} of the text are `{found}`");
                return Err(fail(message));
            }
            let given = argument.entity_type.clone().filter(|entity_type| !entity_type.is_empty());
            typed |= given.is_none() && tag.is_some();
            let entity_type = given.or(tag.map(str::to_owned)).unwrap_or_else(|| "entity".to_owned());
            if tag == Some(entity_type.as_str()) {
                tags.add(&entity_type);
            }
            Ok(Located { span, text: stated.to_owned(), entity_type, tag: tag.is_some() })
        };
        let both = [at(one, 0)?, at(other, 1)?];
        tags.typed += usize::from(typed);
        return Ok(both);
    }
    let found: Vec<(Span, &str)> =
        find_tags(&row.text).into_iter().filter_map(|span| Some((span, tag_of(index.slice(span)?)?))).collect();
    let [one, other] = match found.as_slice() {
        [one, other] => in_order(row, task, [*one, *other])?,
        [(span, tag)] if let Some([one, other]) = two_types(tag) => [(*span, one), (*span, other)],
        _ => return Err(wrong_tags(row, &found)),
    };
    tags.entities += 1;
    let mut located = |(span, entity_type): (Span, &str), which: usize| {
        tags.add(entity_type);
        let stated = row.arguments[which].text.as_deref().or(index.slice(span)).unwrap_or_default();
        Located { span, text: stated.to_owned(), entity_type: entity_type.to_owned(), tag: true }
    };
    Ok([located(one, 0), located(other, 1)])
}

/// `GENE` of `@GENE$`.
fn tag_of(text: &str) -> Option<&str> {
    text.strip_prefix('@')?.strip_suffix('$').filter(|_| is_tag(text))
}

/// The two types of a tag such as `@CHEM-GENE$`, which stands for two overlapping mentions.
fn two_types(tag: &str) -> Option<[&str; 2]> {
    let (one, other) = tag.split_once('-')?;
    (!one.is_empty() && !other.is_empty() && !other.contains('-')).then_some([one, other])
}

/// The tags of the first and the second argument: in the order of the text, unless the row's types
/// state another one.
fn in_order<'a>(row: &Row, task: &Task, tags: [(Span, &'a str); 2]) -> Result<[(Span, &'a str); 2]> {
    let wanted = row
        .arguments
        .each_ref()
        .map(|argument| argument.entity_type.as_ref().filter(|entity_type| !entity_type.is_empty()));
    let fits = |tags: &[(Span, &str); 2]| {
        wanted.iter().zip(tags).all(|(entity_type, (_, tag))| {
            entity_type.is_none_or(|entity_type| entity_type == tag || task.tag(entity_type) == **tag)
        })
    };
    let [one, other] = tags;
    [[one, other], [other, one]].into_iter().find(fits).ok_or_else(|| {
        let types = wanted.iter().flatten().map(|entity_type| entity_type.as_str()).collect::<Vec<_>>().join(", ");
        row.location.error(format!("the types are {types}, but the text has the tags @{}$ and @{}$", one.1, other.1))
    })
}

fn wrong_tags(row: &Row, found: &[(Span, &str)]) -> Error {
    let columns = OFFSETS.join(", ");
    row.location.error(match found {
        [] => format!(
            "there are no offsets, and the text has no tag such as @GENE$: give the columns {columns}, or two tags in \
             each text"
        ),
        _ => format!(
            "the text has {} ({}) where a pair has two: keep the tags of one pair only, or give the columns {columns}",
            if found.len() == 1 { "one tag".to_owned() } else { format!("{} tags", found.len()) },
            found.iter().map(|(_, tag)| format!("@{tag}$")).collect::<Vec<_>>().join(", ")
        ),
    })
}
