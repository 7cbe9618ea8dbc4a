//! ChemProt (BioCreative VI, track 5) from its original tables.
//!
//! Each split has `*_abstracts*.tsv` (id, title, abstract), `*_entities*.tsv` (id, entity, type,
//! start, end, text) and `*_gold_standard*.tsv` (id, group, Arg1:chemical, Arg2:gene), without a
//! header or quoting. Offsets are characters, end-exclusive, into "title, one space, abstract". The
//! `*_relations*` tables have the finer types that the task does not score; they are not read.
//!
//! The task is posed per sentence: every chemical with every gene of the same sentence is a
//! candidate, and a pair with several gold groups gives one [`Pair`] for each. Gold relations
//! across sentences cannot become pairs; they are reported as lost.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;

use rayon::prelude::*;

use super::files::{Tree, has_extension, lines};
use super::offsets::CharIndex;
use super::reader::Reader;
use super::sentences::split_sentences;
use super::{Corpus, Entity, Finding, FindingKind, Pair, Report, Sentence, Span, Split, Task};
use crate::{Error, Result};

/// The three tables that a split needs.
const TABLES: [&str; 3] = ["abstracts", "entities", "gold_standard"];

pub(super) const READER: Reader = Reader { takes: &[], read: |_, paths, _| read(paths) };

/// Read folders, archives, or all files by name.
fn read(paths: &[PathBuf]) -> Result<Corpus> {
    let trees = paths.iter().map(|path| Tree::open(path)).collect::<Result<Vec<_>>>()?;
    let mut report = Report::default();
    let mut found: BTreeMap<(usize, usize), (&Tree, &String)> = BTreeMap::new();
    for (tree, name) in trees.iter().flat_map(|tree| tree.names().iter().map(move |name| (tree, name))) {
        let path = tree.path_of(name);
        let file = name.rsplit('/').next().unwrap_or_default().to_lowercase();
        let split = SPLITS.iter().position(|(_, marks)| marks.iter().any(|mark| file.contains(mark)));
        let table = TABLES.iter().position(|table| file.contains(table));
        let (Some(split), Some(table), true) = (split, table, has_extension(name, "tsv")) else {
            let reason = if file.contains("relations") {
                "has the finer relation types, which the task does not score"
            } else {
                "not a table of ChemProt's train, development or test set"
            };
            report.findings.push(Finding::new(FindingKind::Skipped, path.display().to_string(), reason));
            continue;
        };
        if let Some((tree, other)) = found.insert((split, table), (tree, name)) {
            let message = format!(
                "is a second table of {} for {}; the first is {}",
                TABLES[table],
                SPLITS[split].0,
                tree.path_of(other).display()
            );
            return Err(Error::corpus(path, message));
        }
    }
    let task = Task::chemprot();
    let mut splits = Vec::new();
    for (number, (name, _)) in SPLITS.iter().enumerate() {
        let tables: Vec<_> = (0..TABLES.len()).map(|table| found.get(&(number, table))).collect();
        if tables.iter().all(Option::is_none) {
            continue;
        }
        let table = |index: usize| {
            tables[index].map(|(tree, file)| (*tree, file.as_str())).ok_or_else(|| {
                let message = format!("the {name} set has no *_{}*.tsv among its tables", TABLES[index]);
                Error::corpus(&paths[0], message)
            })
        };
        let files = SplitFiles { abstracts: table(0)?, entities: table(1)?, gold: table(2)? };
        let (split, findings) = files.read(name, &task)?;
        splits.push(split);
        report.findings.extend(findings);
    }
    if splits.is_empty() {
        let message = "no ChemProt table (chemprot_training_abstracts.tsv and the like) was found";
        return Err(Error::corpus(&paths[0], message));
    }
    Ok(Corpus { name: "chemprot".into(), task, splits, folds: None, report })
}

/// Our name of each split, and what its files' names contain.
const SPLITS: [(&str, &[&str]); 3] = [("train", &["train"]), ("dev", &["development", "dev"]), ("test", &["test"])];

struct SplitFiles<'a> {
    abstracts: (&'a Tree, &'a str),
    entities: (&'a Tree, &'a str),
    gold: (&'a Tree, &'a str),
}

/// One abstract with its annotation.
struct Abstract {
    id: String,
    text: String,
    /// Offset of the abstract's first character, after the title.
    body: usize,
    entities: Vec<Entity>,
    /// Label and line of the gold relations of each pair of entity indices.
    gold: BTreeMap<(usize, usize), Vec<usize>>,
}

impl SplitFiles<'_> {
    fn read(&self, split: &str, task: &Task) -> Result<(Split, Vec<Finding>)> {
        let mut abstracts = Vec::new();
        let mut by_id = HashMap::new();
        each_row(self.abstracts, |cells, fail| {
            let [id, title, body] =
                cells.try_into().map_err(|_| fail("must have 3 columns: id, title, abstract".into()))?;
            if by_id.insert(id.to_owned(), abstracts.len()).is_some() {
                return Err(fail(format!("abstract {id} appears twice")));
            }
            let text = format!("{title} {body}");
            let body = title.chars().count() + 1;
            abstracts.push(Abstract { id: id.to_owned(), text, body, entities: Vec::new(), gold: BTreeMap::new() });
            Ok(())
        })?;
        let mut names: HashMap<(usize, String), usize> = HashMap::new();
        let indices: Vec<_> = abstracts.iter().map(|document| document.text.clone()).collect();
        let indices: Vec<_> = indices.iter().map(|text| CharIndex::new(text)).collect();
        each_row(self.entities, |cells, fail| {
            let [document, id, entity_type, start, end, mention] =
                cells.try_into().map_err(|_| fail("must have 6 columns: id, entity, type, start, end, text".into()))?;
            let number = *by_id
                .get(document)
                .ok_or_else(|| fail(format!("abstract {document} is not in the table of abstracts")))?;
            if !task.candidates.includes(entity_type) {
                return Err(fail(format!(
                    "entity {id} has the type `{entity_type}`; ChemProt has CHEMICAL, GENE-Y, GENE-N"
                )));
            }
            let parse = |value: &str| value.parse().map_err(|_| fail(format!("offset `{value}` is not a number")));
            let span = Span::new(parse(start)?, parse(end)?);
            let found = indices[number].slice(span);
            if span.is_empty() || found != Some(mention) {
                let found = found.map_or("outside of the text".to_owned(), |found| format!("`{found}`"));
                let message =
                    format!("entity {id} of {document}: characters {start} to {end} are {found}, not `{mention}`");
                return Err(fail(message));
            }
            let entities = &mut abstracts[number].entities;
            if names.insert((number, id.to_owned()), entities.len()).is_some() {
                return Err(fail(format!("entity {id} of {document} appears twice")));
            }
            let (id, entity_type, text) = (id.to_owned(), entity_type.to_owned(), mention.to_owned());
            entities.push(Entity { id, entity_type, text, spans: vec![span] });
            Ok(())
        })?;
        let mut findings = Vec::new();
        each_row(self.gold, |cells, fail| {
            let [document, group, arg1, arg2] =
                cells.try_into().map_err(|_| fail("must have 4 columns: id, group, Arg1:.., Arg2:..".into()))?;
            let number = *by_id
                .get(document)
                .ok_or_else(|| fail(format!("abstract {document} is not in the table of abstracts")))?;
            let label = task.label(group).filter(|&label| Some(label) != task.negative).ok_or_else(|| {
                fail(format!("group `{group}` is not one of the scored {}", task.labels[1..].join(", ")))
            })?;
            let argument = |cell: &str, prefix: &str| {
                let id =
                    cell.strip_prefix(prefix).ok_or_else(|| fail(format!("`{cell}` does not start with {prefix}")))?;
                let missing = || fail(format!("entity {id} of {document} is not in the table of entities"));
                names.get(&(number, id.to_owned())).copied().ok_or_else(missing)
            };
            let pair = (argument(arg1, "Arg1:")?, argument(arg2, "Arg2:")?);
            let entities = &abstracts[number].entities;
            if !task.candidates.allow(&entities[pair.0].entity_type, &entities[pair.1].entity_type) {
                return Err(fail(format!("{arg1} must be a chemical and {arg2} a gene")));
            }
            let labels = abstracts[number].gold.entry(pair).or_default();
            if labels.contains(&label) {
                let id = format!("{document}.{}.{}", &arg1[5..], &arg2[5..]);
                let reason = "the same gold relation is listed twice";
                let finding = Finding::new(FindingKind::Skipped, id, reason);
                findings.push(finding.of_document(document).within(split).labelled(label));
            } else {
                labels.push(label);
            }
            Ok(())
        })?;
        let formed: Vec<_> = abstracts.par_iter().map(|document| document.sentences(task, split)).collect();
        let mut sentences = Vec::new();
        for (some, lost) in formed {
            sentences.extend(some);
            findings.extend(lost);
        }
        Ok((Split { name: split.to_owned(), sentences }, findings))
    }
}

impl Abstract {
    /// The sentences with their candidate pairs, and the gold relations that are in none of them.
    fn sentences(&self, task: &Task, split: &str) -> (Vec<Sentence>, Vec<Finding>) {
        let bounds: Vec<Span> = self.entities.iter().map(Entity::bounding_span).collect();
        let index = CharIndex::new(&self.text);
        let mut formed: HashSet<(usize, usize)> = HashSet::new();
        let mut sentences = Vec::new();
        for (number, span) in split_sentences(&self.text, &[self.body], &bounds).into_iter().enumerate() {
            let inside: Vec<usize> =
                (0..bounds.len()).filter(|&e| span.start <= bounds[e].start && bounds[e].end <= span.end).collect();
            let local = |&e: &usize| {
                let moved = Span::new(bounds[e].start - span.start, bounds[e].end - span.start);
                Entity { spans: vec![moved], ..self.entities[e].clone() }
            };
            // BLUE's order of rows: by chemical; genes without a normal form (GENE-N) before those with one.
            let of = |types: &[&str]| {
                let is = |&at: &usize| types.contains(&self.entities[inside[at]].entity_type.as_str());
                (0..inside.len()).filter(is).collect::<Vec<usize>>()
            };
            let genes = [of(&["GENE-N"]), of(&["GENE-Y", "GENE"])].concat();
            let mut pairs = Vec::new();
            for entity1 in of(&["CHEMICAL"]) {
                for &entity2 in &genes {
                    let key = (inside[entity1], inside[entity2]);
                    let id = format!("{}.{}.{}", self.id, self.entities[key.0].id, self.entities[key.1].id);
                    formed.insert(key);
                    match self.gold.get(&key).map(Vec::as_slice) {
                        None | Some([]) => {
                            pairs.push(Pair { id, entity1, entity2, label: 0, row: None, concepts: None })
                        }
                        Some(&[label]) => pairs.push(Pair { id, entity1, entity2, label, row: None, concepts: None }),
                        Some(labels) => pairs.extend(labels.iter().map(|&label| Pair {
                            id: format!("{id}.{}", task.labels[label]),
                            entity1,
                            entity2,
                            label,
                            row: None,
                            concepts: None,
                        })),
                    }
                }
            }
            sentences.push(Sentence {
                id: format!("{}.s{number}", self.id),
                document: self.id.clone(),
                text: index.slice(span).unwrap_or_default().to_owned(),
                entities: inside.iter().map(local).collect(),
                pairs,
            });
        }
        let lost = self.gold.iter().filter(|(pair, _)| !formed.contains(pair));
        let findings = lost.flat_map(|(pair, labels)| {
            labels.iter().map(move |&label| {
                let id = format!("{}.{}.{}", self.id, self.entities[pair.0].id, self.entities[pair.1].id);
                let reason = "a gold relation between mentions of two sentences";
                Finding::new(FindingKind::Lost, id, reason).of_document(&self.id).within(split).labelled(label)
            })
        });
        (sentences, findings.collect())
    }
}

/// Call `take` with each row of a table and a function that builds an error at its line.
fn each_row(
    (tree, name): (&Tree, &str),
    mut take: impl FnMut(&[&str], &dyn Fn(String) -> Error) -> Result<()>,
) -> Result<()> {
    let path = tree.path_of(name);
    let text = tree.read(name)?;
    for (line, row) in lines(&text) {
        let cells: Vec<&str> = row.split('\t').collect();
        take(&cells, &|message| Error::corpus_line(&path, line, message))?;
    }
    Ok(())
}
