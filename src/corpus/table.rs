//! A user's own pairs: one row for each candidate pair, with character offsets.
//!
//! Columns: `text`, `label`, `entity1_start`, `entity1_end`, `entity2_start`, `entity2_end` (characters,
//! end-exclusive) are needed; `id`, `document`, `sentence`, `entity1`, `entity2` (the mentions' texts, checked when they
//! are there), `entity1_type`, `entity2_type`, `split`, `fold` are optional. Rows of one sentence share its text.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

use super::offsets::CharIndex;
use super::{Candidates, Corpus, Entity, Finding, FindingKind, Pair, ReadOptions, Report, Sentence, Span, Split, Task};
use crate::{Error, Result};

/// Columns of a table in memory. The vectors that are there have one value for each row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns {
    /// Identifier of the pair; `{sentence}.p{n}` where the column is missing.
    pub id: Option<Vec<String>>,
    /// Identifier of the document, the unit that cross-validation keeps together.
    pub document: Option<Vec<String>>,
    /// Identifier of the sentence.
    pub sentence: Option<Vec<String>>,
    /// The text that the offsets index.
    pub text: Vec<String>,
    /// The gold label.
    pub label: Vec<String>,
    /// First character of the first argument.
    pub entity1_start: Vec<usize>,
    /// One past its last character.
    pub entity1_end: Vec<usize>,
    /// First character of the second argument.
    pub entity2_start: Vec<usize>,
    /// One past its last character.
    pub entity2_end: Vec<usize>,
    /// Text of the first argument, to be checked.
    pub entity1: Option<Vec<String>>,
    /// Text of the second argument, to be checked.
    pub entity2: Option<Vec<String>>,
    /// Type of the first argument; `entity` where the column is missing.
    pub entity1_type: Option<Vec<String>>,
    /// Type of the second argument.
    pub entity2_type: Option<Vec<String>>,
    /// Name of the row's split; all rows are in `all` where the column is missing.
    pub split: Option<Vec<String>>,
    /// Fold of the row's document.
    pub fold: Option<Vec<usize>>,
}

/// Where a row comes from, for messages and identifiers.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    /// Line of a file; `None` for a table in memory.
    pub(super) line: Option<usize>,
    /// Number of the row, from 0.
    pub(super) row: usize,
}

impl Place {
    pub(super) fn error(&self, message: String) -> Error {
        match self.line {
            Some(line) => Error::corpus_line(&self.path, line, message),
            None => Error::corpus(&self.path, format!("row {}: {message}", self.row)),
        }
    }
}

/// An argument as a row states it.
#[derive(Debug, Clone)]
pub(super) struct Argument {
    pub(super) span: Span,
    pub(super) text: Option<String>,
    pub(super) kind: Option<String>,
}

/// One row, wherever it came from.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) place: Place,
    pub(super) id: Option<String>,
    pub(super) document: Option<String>,
    pub(super) sentence: Option<String>,
    pub(super) text: String,
    pub(super) label: String,
    pub(super) arguments: [Argument; 2],
    pub(super) split: Option<String>,
    pub(super) fold: Option<usize>,
}

/// A corpus from columns in memory.
pub(super) fn from_columns(columns: &Columns, options: &ReadOptions) -> Result<Corpus> {
    let count = columns.text.len();
    let optional = |column: &Option<Vec<String>>| column.as_ref().map(Vec::len);
    let lengths = [
        ("id", optional(&columns.id)),
        ("document", optional(&columns.document)),
        ("sentence", optional(&columns.sentence)),
        ("label", Some(columns.label.len())),
        ("entity1_start", Some(columns.entity1_start.len())),
        ("entity1_end", Some(columns.entity1_end.len())),
        ("entity2_start", Some(columns.entity2_start.len())),
        ("entity2_end", Some(columns.entity2_end.len())),
        ("entity1", optional(&columns.entity1)),
        ("entity2", optional(&columns.entity2)),
        ("entity1_type", optional(&columns.entity1_type)),
        ("entity2_type", optional(&columns.entity2_type)),
        ("split", optional(&columns.split)),
        ("fold", columns.fold.as_ref().map(Vec::len)),
    ];
    if let Some((name, Some(length))) = lengths.iter().find(|(_, length)| length.is_some_and(|l| l != count)) {
        let message = format!("column `{name}` has {length} rows where `text` has {count}");
        return Err(Error::corpus("table", message));
    }
    let cell = |column: &Option<Vec<String>>, row: usize| column.as_ref().map(|column| column[row].clone());
    let rows = (0..count)
        .map(|row| {
            let span1 = Span::new(columns.entity1_start[row], columns.entity1_end[row]);
            let span2 = Span::new(columns.entity2_start[row], columns.entity2_end[row]);
            Row {
                place: Place { path: "table".into(), line: None, row },
                id: cell(&columns.id, row),
                document: cell(&columns.document, row),
                sentence: cell(&columns.sentence, row),
                text: columns.text[row].clone(),
                label: columns.label[row].clone(),
                arguments: [
                    Argument { span: span1, text: cell(&columns.entity1, row), kind: cell(&columns.entity1_type, row) },
                    Argument { span: span2, text: cell(&columns.entity2, row), kind: cell(&columns.entity2_type, row) },
                ],
                split: cell(&columns.split, row),
                fold: columns.fold.as_ref().map(|fold| fold[row]),
            }
        })
        .collect();
    build(rows, options, PathBuf::from("table"))
}

/// Labels that mean "no relation" when the user names none.
const NEGATIVES: [&str; 9] =
    ["false", "negative", "none", "no_relation", "no relation", "no-relation", "other", "no", "0"];

/// Whether a label says that there is no relation.
pub(super) fn means_none(label: &str) -> bool {
    NEGATIVES.contains(&label.to_lowercase().as_str())
}

/// Form the corpus from rows.
pub(super) fn build(rows: Vec<Row>, options: &ReadOptions, path: PathBuf) -> Result<Corpus> {
    if rows.is_empty() {
        return Err(Error::corpus(path, "has no rows"));
    }
    let mut report = Report::default();
    if rows.iter().all(|row| row.document.is_none()) {
        let reason = "no `document` column: every sentence counts as a document of its own in cross-validation";
        report.findings.push(Finding::new(FindingKind::Repaired, path.display().to_string(), reason));
    }
    let mut task = task(&rows, options)?;
    let mut splits: Vec<Split> = Vec::new();
    let mut folds: Option<BTreeMap<String, usize>> = None;
    let mut sentences: HashMap<String, (usize, usize)> = HashMap::new();
    let mut texts: HashMap<(Option<String>, String, String), String> = HashMap::new();
    let mut ids: HashSet<String> = HashSet::new();
    let mut kinds: BTreeSet<(String, String)> = BTreeSet::new();
    for row in rows {
        let fail = |message: String| row.place.error(message);
        let label = task.label(&row.label).ok_or_else(|| {
            fail(format!("label `{}` is not one of the task's labels: {}", row.label, task.labels.join(", ")))
        })?;
        let split_name = row.split.clone().unwrap_or_else(|| "all".to_owned());
        // A sentence is known by its identifier; without one, rows of one document with one text are one sentence.
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
        let (home, number) = *sentences.entry(sentence_id.clone()).or_insert_with(|| {
            let (id, document, text) = (sentence_id.clone(), document.clone(), row.text.clone());
            list.push(Sentence { id, document, text, entities: Vec::new(), pairs: Vec::new() });
            (split, list.len() - 1)
        });
        if home != split {
            return Err(fail(format!(
                "sentence {sentence_id} is in two splits: {} and {split_name}",
                splits[home].name
            )));
        }
        let sentence = &mut list[number];
        if sentence.text != row.text || sentence.document != document {
            return Err(fail(format!("sentence {sentence_id} has another text or document in an earlier row")));
        }
        let [first, second] = &row.arguments;
        let (entity1, entity2) =
            (mention(sentence, first, "entity1", &fail)?, mention(sentence, second, "entity2", &fail)?);
        if entity1 == entity2 {
            return Err(fail("both arguments are the same mention".into()));
        }
        kinds.insert((sentence.entities[entity1].kind.clone(), sentence.entities[entity2].kind.clone()));
        let id = row.id.clone().unwrap_or_else(|| format!("{sentence_id}.p{}", sentence.pairs.len()));
        if !ids.insert(id.clone()) {
            return Err(fail(format!("id {id} is there twice")));
        }
        sentence.pairs.push(Pair { id, entity1, entity2, label });
    }
    task.candidates = candidates(&kinds);
    order_splits(&mut splits);
    Ok(Corpus { name: task.name.clone(), task, splits, folds, report })
}

/// The labels: as given, or collected, the negative one first and the others sorted.
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
    Task::new(name, labels, negative.as_deref())
}

/// The mention of an argument, added to its sentence when it is new.
fn mention(sentence: &mut Sentence, argument: &Argument, which: &str, fail: &dyn Fn(String) -> Error) -> Result<usize> {
    let Span { start, end } = argument.span;
    if start >= end {
        return Err(fail(format!("{which}_start {start} is not before {which}_end {end}")));
    }
    let index = CharIndex::new(&sentence.text);
    let found = index.slice(argument.span).ok_or_else(|| {
        fail(format!("{which}_end {end} is outside of the text, which has {} characters", index.len()))
    })?;
    if let Some(text) = &argument.text
        && text != found
    {
        return Err(fail(format!("{which} is `{text}`, but characters {start} to {end} of the text are `{found}`")));
    }
    let kind = argument.kind.clone().filter(|kind| !kind.is_empty()).unwrap_or_else(|| "entity".to_owned());
    let same = |entity: &Entity| entity.spans == [argument.span] && entity.kind == kind;
    if let Some(known) = sentence.entities.iter().position(same) {
        return Ok(known);
    }
    let id = format!("{}.e{}", sentence.id, sentence.entities.len());
    sentence.entities.push(Entity { id, kind, text: found.to_owned(), spans: vec![argument.span] });
    Ok(sentence.entities.len() - 1)
}

/// Prediction pairs what the table pairs: one rule for each combination of types.
fn candidates(kinds: &BTreeSet<(String, String)>) -> Candidates {
    Candidates { rules: kinds.iter().map(|(first, second)| (vec![first.clone()], vec![second.clone()])).collect() }
}

/// train, dev, test first, the others in the order of the rows.
fn order_splits(splits: &mut [Split]) {
    let known = ["train", "dev", "validation", "test"];
    splits.sort_by_key(|split| known.iter().position(|name| *name == split.name).unwrap_or(known.len()));
}
