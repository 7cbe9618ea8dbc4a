//! A user's own pairs: one row for each candidate pair.
//!
//! Columns: `text` and `label` are required; `entity1_start`, `entity1_end`, `entity2_start`,
//! `entity2_end` (characters, end-exclusive) too, unless each text has two tags such as `@GENE$`
//! ([`super::tagged`]). `id`, `document`, `sentence`, `entity1`, `entity2` (the mentions' texts,
//! checked where given), `entity1_type`, `entity2_type`, `split`, `fold` are optional. Rows of one
//! sentence share its text.
//!
//! Pairs keep the number of their row ([`TableRow`]), so that tables of instances have the order of
//! the user's table.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

use super::table_row::{OFFSETS, Row, RowArgument, RowLocation};
use super::tagged::{Located, Tags, locate};
use super::{
    Candidates, Corpus, Entity, Finding, FindingKind, Pair, ReadOptions, Report, Sentence, Span, Split, TableRow, Task,
};
use crate::{Error, Result};

/// The columns of a table in memory. Every vector has one value per row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableColumns {
    /// Identifier of the pair; `{sentence}.p{n}` if the column is missing.
    pub id: Option<Vec<String>>,
    /// Identifier of the document, the unit that cross-validation keeps together.
    pub document: Option<Vec<String>>,
    /// Identifier of the sentence.
    pub sentence: Option<Vec<String>>,
    /// The text that the offsets refer to.
    pub text: Vec<String>,
    /// The gold label.
    pub label: Vec<String>,
    /// First character of the first argument. All four offsets may be missing if two tags mark the
    /// entities.
    pub entity1_start: Option<Vec<usize>>,
    /// One past its last character.
    pub entity1_end: Option<Vec<usize>>,
    /// First character of the second argument.
    pub entity2_start: Option<Vec<usize>>,
    /// One past its last character.
    pub entity2_end: Option<Vec<usize>>,
    /// Text of the first argument, to be checked.
    pub entity1: Option<Vec<String>>,
    /// Text of the second argument, to be checked.
    pub entity2: Option<Vec<String>>,
    /// Type of the first argument; `entity` if the column is missing.
    pub entity1_type: Option<Vec<String>>,
    /// Type of the second argument.
    pub entity2_type: Option<Vec<String>>,
    /// Name of the row's split; `all` if the column is missing.
    pub split: Option<Vec<String>>,
    /// Fold of the row's document.
    pub fold: Option<Vec<usize>>,
    /// The name of each row in messages; by default its number, from 0.
    pub row: Option<Vec<String>>,
}

/// A corpus from columns in memory.
pub(super) fn from_columns(columns: &TableColumns, options: &ReadOptions) -> Result<Corpus> {
    let count = columns.text.len();
    let optional = |column: &Option<Vec<String>>| column.as_ref().map(Vec::len);
    let lengths = [
        ("id", optional(&columns.id)),
        ("document", optional(&columns.document)),
        ("sentence", optional(&columns.sentence)),
        ("label", Some(columns.label.len())),
        ("entity1_start", columns.entity1_start.as_ref().map(Vec::len)),
        ("entity1_end", columns.entity1_end.as_ref().map(Vec::len)),
        ("entity2_start", columns.entity2_start.as_ref().map(Vec::len)),
        ("entity2_end", columns.entity2_end.as_ref().map(Vec::len)),
        ("entity1", optional(&columns.entity1)),
        ("entity2", optional(&columns.entity2)),
        ("entity1_type", optional(&columns.entity1_type)),
        ("entity2_type", optional(&columns.entity2_type)),
        ("split", optional(&columns.split)),
        ("fold", columns.fold.as_ref().map(Vec::len)),
        ("row", optional(&columns.row)),
    ];
    if let Some((name, Some(length))) = lengths.iter().find(|(_, length)| length.is_some_and(|l| l != count)) {
        let message = format!("column `{name}` has {length} rows where `text` has {count}");
        return Err(Error::corpus("table", message));
    }
    let offsets = [&columns.entity1_start, &columns.entity1_end, &columns.entity2_start, &columns.entity2_end];
    let offsets: Option<[&Vec<usize>; 4]> = match offsets.map(Option::as_ref) {
        [Some(start1), Some(end1), Some(start2), Some(end2)] => Some([start1, end1, start2, end2]),
        some => {
            if let Some(missing) = some.iter().position(Option::is_none).filter(|_| some.iter().any(Option::is_some)) {
                return Err(Error::corpus("table", format!("no column `{}`", OFFSETS[missing])));
            }
            None
        }
    };
    // An empty cell has no value, as in a file.
    let cell = |column: &Option<Vec<String>>, row: usize| {
        column.as_ref().map(|column| column[row].clone()).filter(|value| !value.is_empty())
    };
    let rows = (0..count)
        .map(|row| {
            let span = |argument: usize| {
                offsets.map(|columns| Span::new(columns[2 * argument][row], columns[2 * argument + 1][row]))
            };
            let number = TableRow { table: 0, row };
            Row {
                location: RowLocation { path: "table".into(), line: None, row: number, name: cell(&columns.row, row) },
                id: cell(&columns.id, row),
                document: cell(&columns.document, row),
                sentence: cell(&columns.sentence, row),
                text: columns.text[row].clone(),
                label: columns.label[row].clone(),
                arguments: [
                    RowArgument {
                        span: span(0),
                        text: cell(&columns.entity1, row),
                        entity_type: cell(&columns.entity1_type, row),
                    },
                    RowArgument {
                        span: span(1),
                        text: cell(&columns.entity2, row),
                        entity_type: cell(&columns.entity2_type, row),
                    },
                ],
                split: cell(&columns.split, row),
                fold: columns.fold.as_ref().map(|fold| fold[row]),
            }
        })
        .collect();
    build(rows, options, PathBuf::from("table"))
}

/// Labels that mean "no relation" if the user does not name one.
const NEGATIVES: [&str; 15] = [
    "false",
    "negative",
    "neg",
    "none",
    "no_relation",
    "no relation",
    "no-relation",
    "no_interaction",
    "no interaction",
    "unrelated",
    "not_related",
    "not related",
    "other",
    "no",
    "0",
];

/// Whether a label means "no relation", by its name.
pub fn means_none(label: &str) -> bool {
    NEGATIVES.contains(&label.to_lowercase().as_str())
}

/// Build the corpus from rows.
pub(super) fn build(rows: Vec<Row>, options: &ReadOptions, path: PathBuf) -> Result<Corpus> {
    if rows.is_empty() {
        return Err(Error::corpus(path, "has no rows"));
    }
    let mut report = Report::default();
    if rows.iter().all(|row| row.document.is_none()) {
        let reason = "no `document` column: every sentence counts as its own document in cross-validation";
        report.findings.push(Finding::new(FindingKind::Repaired, path.display().to_string(), reason));
    }
    let mut task = task(&rows, options)?;
    let mut splits: Vec<Split> = Vec::new();
    let mut folds: Option<BTreeMap<String, usize>> = None;
    let mut sentences: HashMap<String, (usize, usize)> = HashMap::new();
    let mut texts: HashMap<(Option<String>, String, String), String> = HashMap::new();
    let mut ids: HashSet<String> = HashSet::new();
    let mut types: BTreeSet<(String, String)> = BTreeSet::new();
    let mut tags = Tags::default();
    for row in rows {
        let fail = |message: String| row.location.error(message);
        let label = task.label(&row.label).ok_or_else(|| {
            fail(format!("label `{}` is not one of the task's labels: {}", row.label, task.labels.join(", ")))
        })?;
        let split_name = row.split.clone().unwrap_or_else(|| "all".to_owned());
        // The identifier decides which sentence a row belongs to; without one, rows of one document with the
        // same text are one sentence.
        let sentence_id = match &row.sentence {
            Some(id) => id.clone(),
            None => {
                let key = (row.document.clone(), row.text.clone(), split_name.clone());
                let number = texts.len();
                let prefix = row.document.as_deref().unwrap_or("table");
                texts.entry(key).or_insert_with(|| format!("{prefix}.s{number}")).clone()
            }
        };
        let document = row.document.clone().unwrap_or_else(|| sentence_id.clone());
        if let Some(fold) = row.fold {
            let folds = folds.get_or_insert_default();
            if *folds.entry(document.clone()).or_insert(fold) != fold {
                return Err(fail(format!("document {document} is in two folds: all its rows need the same one")));
            }
        }
        let split = match splits.iter().position(|split| split.name == split_name) {
            Some(known) => known,
            None => {
                splits.push(Split { name: split_name.clone(), sentences: Vec::new() });
                splits.len() - 1
            }
        };
        let list = &mut splits[split].sentences;
        let (own_split, number) = *sentences.entry(sentence_id.clone()).or_insert_with(|| {
            let (id, document, text) = (sentence_id.clone(), document.clone(), row.text.clone());
            list.push(Sentence { id, document, text, entities: Vec::new(), pairs: Vec::new() });
            (split, list.len() - 1)
        });
        if own_split != split {
            return Err(fail(format!(
                "sentence {sentence_id} is in two splits: {} and {split_name}",
                splits[own_split].name
            )));
        }
        let sentence = &mut list[number];
        let located = locate(&row, &task, &mut tags)?;
        if sentence.text != row.text || sentence.document != document {
            let remedy = match located.iter().any(|one| one.tag) {
                true => "; a text with the tags of one pair is a sentence of its own: omit the column `sentence`",
                false => {
                    "; number the sentences of all documents, or rename the column: rows with the same text and \
                     document are one sentence"
                }
            };
            return Err(fail(format!("sentence {sentence_id} has another text or document in an earlier row{remedy}")));
        }
        let [first, second] = &located;
        let entity1 = mention(sentence, first, None);
        let entity2 = mention(sentence, second, (first.tag && first.span == second.span).then_some(entity1));
        if entity1 == entity2 {
            return Err(fail("both arguments are the same mention".into()));
        }
        types.insert((sentence.entities[entity1].entity_type.clone(), sentence.entities[entity2].entity_type.clone()));
        let id = row.id.clone().unwrap_or_else(|| format!("{sentence_id}.p{}", sentence.pairs.len()));
        if !ids.insert(id.clone()) {
            let remedy = match row.id.is_some() {
                true => {
                    "; it must be different in every row: rename the column, to `document` if it names the text's source"
                }
                false => "",
            };
            return Err(fail(format!("id {id} appears twice{remedy}")));
        }
        sentence.pairs.push(Pair { id, entity1, entity2, label, row: Some(row.location.row), concepts: None });
    }
    task.candidates = candidates(&types);
    tags.report(&path, &mut task, &mut report);
    order_splits(&mut splits);
    Ok(Corpus { name: task.name.clone(), task, splits, folds, report })
}

/// The labels: as given, or collected from the rows, the negative one first and the others sorted.
fn task(rows: &[Row], options: &ReadOptions) -> Result<Task> {
    let name = options.name.clone().unwrap_or_else(|| "table".to_owned());
    let seen: BTreeSet<&str> = rows.iter().map(|row| row.label.as_str()).collect();
    let labels: Vec<String> = match &options.labels {
        Some(labels) => labels.clone(),
        None => seen.iter().map(|label| (*label).to_owned()).collect(),
    };
    let guessed: Vec<&String> = labels.iter().filter(|label| means_none(label)).collect();
    let negative = match (&options.negative, guessed.as_slice()) {
        (Some(negative), _) => Some(negative.clone()),
        (None, [only]) => Some((*only).clone()),
        (None, _) => None,
    };
    let labels = match (&options.labels, &negative) {
        (None, Some(negative)) if seen.contains(negative.as_str()) => {
            let others = labels.into_iter().filter(|label| label != negative);
            [negative.clone()].into_iter().chain(others).collect()
        }
        _ => labels,
    };
    Ok(Task { columns: options.columns.clone(), ..Task::new(name, labels, negative.as_deref())? })
}

/// The mention of an argument; it is added to its sentence if it is new. One tag may stand for both
/// arguments, which are still two mentions: `other` is then the first of them.
fn mention(sentence: &mut Sentence, argument: &Located, other: Option<usize>) -> usize {
    let Located { span, text, entity_type, .. } = argument;
    let same = |(index, entity): (usize, &Entity)| {
        entity.spans == [*span] && entity.entity_type == *entity_type && entity.text == *text && Some(index) != other
    };
    if let Some(known) = sentence.entities.iter().enumerate().position(same) {
        return known;
    }
    let id = format!("{}.e{}", sentence.id, sentence.entities.len());
    sentence.entities.push(Entity { id, entity_type: entity_type.clone(), text: text.clone(), spans: vec![*span] });
    sentence.entities.len() - 1
}

/// One rule for each combination of types in the table, so that prediction forms the same pairs.
fn candidates(types: &BTreeSet<(String, String)>) -> Candidates {
    Candidates { rules: types.iter().map(|(first, second)| (vec![first.clone()], vec![second.clone()])).collect() }
}

/// Put train, dev and test first, and the others in the order of the rows.
fn order_splits(splits: &mut [Split]) {
    let known = ["train", "dev", "validation", "test"];
    splits.sort_by_key(|split| known.iter().position(|name| *name == split.name).unwrap_or(known.len()));
}
