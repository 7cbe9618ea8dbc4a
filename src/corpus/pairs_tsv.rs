//! AIMed as one flat table, one row for each pair, with the ten published folds.
//!
//! Columns, in any order: `fold`, `doc`, `sentence_id`, `pair_id`, `label` (`positive` or
//! `negative`), `e1_start`, `e1_end`, `e2_start`, `e2_end` (characters, end-exclusive), `e1`, `e2`,
//! `text`. Fields are not quoted. The mentions of a sentence are the arguments of its pairs.

use std::collections::{BTreeMap, HashMap};

use super::files::{Tree, lines};
use super::offsets::CharIndex;
use super::{Corpus, Entity, Pair, Report, Sentence, Span, Split, Task};
use crate::{Error, Result};

/// The name of the only split: the corpora of this task are scored by cross-validation.
pub(super) const SPLIT: &str = "all";

const COLUMNS: [&str; 12] =
    ["fold", "doc", "sentence_id", "pair_id", "label", "e1_start", "e1_end", "e2_start", "e2_end", "e1", "e2", "text"];

pub(super) fn read(files: &[(&Tree, &String)]) -> Result<Corpus> {
    let task = Task::ppi();
    let mut sentences: Vec<Sentence> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    let mut folds = BTreeMap::new();
    for (tree, name) in files {
        let path = tree.path_of(name);
        let text = tree.read(name)?;
        let mut rows = lines(&text);
        let header: Vec<&str> = rows.next().map(|(_, header)| header.split('\t').collect()).unwrap_or_default();
        let mut positions = [0; COLUMNS.len()];
        for (position, column) in positions.iter_mut().zip(COLUMNS) {
            *position = header.iter().position(|name| *name == column).ok_or_else(|| {
                let message = format!("no column `{column}`; a table of pairs has {}", COLUMNS.join(", "));
                Error::corpus_line(&path, 1, message)
            })?;
        }
        for (line, row) in rows {
            let fail = |message: String| Error::corpus_line(&path, line, message);
            let cells: Vec<&str> = row.split('\t').collect();
            if cells.len() != header.len() {
                return Err(fail(format!("has {} columns where the header has {}", cells.len(), header.len())));
            }
            let [fold, doc, sentence_id, pair_id, label, s1, e1, s2, e2, mention1, mention2, text] =
                positions.map(|position| cells.get(position).copied().unwrap_or_default());
            let fold: usize = fold.parse().map_err(|_| fail(format!("fold `{fold}` is not a number")))?;
            if *folds.entry(doc.to_owned()).or_insert(fold) != fold {
                return Err(fail(format!(
                    "document {doc} is in two folds: every row of a document needs the same one"
                )));
            }
            let label = task
                .label(label)
                .ok_or_else(|| fail(format!("label `{label}` is unknown; it must be {}", task.labels.join(" or "))))?;
            let number = *known.entry(sentence_id.to_owned()).or_insert_with(|| {
                let (id, document, text) = (sentence_id.to_owned(), doc.to_owned(), text.to_owned());
                sentences.push(Sentence { id, document, text, entities: Vec::new(), pairs: Vec::new() });
                sentences.len() - 1
            });
            let sentence = &mut sentences[number];
            if sentence.text != text || sentence.document != doc {
                return Err(fail(format!("sentence {sentence_id} has another text or document in an earlier row")));
            }
            let index = CharIndex::new(text);
            let mut mention = |which: &str, start: &str, end: &str, mention: &str| {
                let parse =
                    |value: &str| value.parse().map_err(|_| fail(format!("{which}: offset `{value}` is not a number")));
                let span = Span::new(parse(start)?, parse(end)?);
                if span.is_empty() || index.slice(span) != Some(mention) {
                    let found =
                        index.slice(span).map_or("outside of the text".to_owned(), |slice| format!("`{slice}`"));
                    return Err(fail(format!("{which}: characters {start} to {end} are {found}, not `{mention}`")));
                }
                Ok(entity(sentence, span, mention))
            };
            let (entity1, entity2) = (mention("e1", s1, e1, mention1)?, mention("e2", s2, e2, mention2)?);
            if entity1 == entity2 {
                return Err(fail(format!("pair {pair_id} has the same mention twice")));
            }
            sentence.pairs.push(Pair { id: pair_id.to_owned(), entity1, entity2, label, row: None, concepts: None });
        }
    }
    let splits = vec![Split { name: SPLIT.to_owned(), sentences }];
    Ok(Corpus { name: "aimed".into(), task, splits, folds: Some(folds), report: Report::default() })
}

/// The mention at a span; it is added if it is new.
fn entity(sentence: &mut Sentence, span: Span, text: &str) -> usize {
    if let Some(known) = sentence.entities.iter().position(|entity| entity.bounding_span() == span) {
        return known;
    }
    let id = format!("{}.e{}", sentence.id, sentence.entities.len());
    sentence.entities.push(Entity { id, entity_type: "protein".into(), text: text.to_owned(), spans: vec![span] });
    sentence.entities.len() - 1
}
