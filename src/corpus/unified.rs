//! The unified XML form of the protein-protein interaction corpora (AIMed, BioInfer, HPRD50, IEPA,
//! LLL).
//!
//! Two dialects are in circulation, and both are read. One lists every candidate pair as `<pair
//! interaction="True|False">`. The other lists only the positives, as `<interaction>`; there any
//! two mentions of a sentence are a candidate pair. Copies also differ in whether the end of a
//! `charOffset` is the last character or one past it, so that is decided for each file by comparing
//! the offsets with the mentions' texts; a file where neither convention fits is refused.
//!
//! Every mention is a `protein`. The corpora's own types are not used: subtypes (BioInfer),
//! identifiers (HPRD50), or the roles in the relation (LLL), which a model must not see.
//!
//! A file states its corpus (`source`), so that a folder may have several: `lll` reads the files of
//! LLL, and `ppi` reads all as one corpus with a split for each, for cross-corpus evaluation.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::files::{Tree, has_extension};
use super::offsets::{CharIndex, Convention, matches_mention, to_spans};
use super::pairs_tsv::SPLIT;
use super::reader::Reader;
use super::xml::{self, File, RawEntity, children};
use super::{Corpus, Entity, Finding, FindingKind, Pair, Report, Sentence, Split, Task, pairs_tsv};
use crate::{Error, Result};

pub(super) const READER: Reader = Reader { takes: &[], read: |name, paths, _| read(name, paths) };

/// The type of every mention.
const PROTEIN: &str = "protein";

/// The name of all corpora together.
const ALL: &str = "ppi";

/// The corpus of the flat table of pairs. Its name also stands for any single corpus in the unified
/// form.
const AIMED: &str = "aimed";

/// Read XML files, folders or archives of them, or AIMed's flat table of pairs.
///
/// AIMed is read from the table if there is one, since it states the published folds; its XML files
/// are then reported as skipped.
fn read(name: &str, paths: &[PathBuf]) -> Result<Corpus> {
    let trees = paths.iter().map(|path| Tree::open(path)).collect::<Result<Vec<_>>>()?;
    let takes_table = name == AIMED || name == ALL;
    let (mut tables, mut documents, mut report) = (Vec::new(), Vec::new(), Report::default());
    for (tree, file) in trees.iter().flat_map(|tree| tree.names().iter().map(move |file| (tree, file))) {
        if has_extension(file, "xml") {
            documents.push((tree, file));
        } else if has_extension(file, "tsv") && takes_table {
            tables.push((tree, file));
        } else {
            report.findings.push(skipped(tree, file, "not a file of this corpus"));
        }
    }
    let no_file = |message: &str| Err(Error::corpus(&paths[0], message));
    if tables.is_empty() && documents.is_empty() {
        return no_file(match takes_table {
            true => "no .xml file of the unified PPI form and no .tsv of pairs",
            false => "no .xml file of the unified PPI form",
        });
    }
    let table = if tables.is_empty() { None } else { Some(pairs_tsv::read(&tables)?) };
    if name == AIMED
        && let Some(mut corpus) = table
    {
        let reason = "another form of the corpus; the table of pairs was read";
        corpus.report.findings.extend(documents.iter().map(|(tree, file)| skipped(tree, file, reason)));
        corpus.report.findings.append(&mut report.findings);
        return Ok(corpus);
    }
    let read = |(tree, file): &(&Tree, &String)| read_file(&tree.path_of(file), &tree.read(file)?);
    let parts: Vec<Result<Contents>> = documents.par_iter().map(read).collect();
    let parts = documents.into_iter().zip(parts).map(|(file, part)| Ok((file, part?)));
    let mut parts: Vec<((&Tree, &String), Contents)> = parts.collect::<Result<_>>()?;
    let wanted = match name {
        ALL => None,
        AIMED if !parts.iter().any(|(_, part)| part.source.as_deref() == Some(AIMED)) => None,
        name => Some(name),
    };
    let mut others = BTreeSet::new();
    parts.retain(|((tree, file), part)| {
        let own = part.source.as_deref().or(wanted).unwrap_or_default();
        let reason = match (wanted, &table) {
            (Some(wanted), _) if own != wanted => "a file of another corpus, by its `source`",
            (None, Some(_)) if own == AIMED => "another form of the corpus; the table of pairs was read",
            _ => return true,
        };
        others.insert(own.to_owned());
        report.findings.push(skipped(tree, file, reason));
        false
    });
    if parts.is_empty() && table.is_none() {
        let others = others.into_iter().collect::<Vec<_>>().join(", ");
        return no_file(&format!("no file has the source {name}; there are files of {others}"));
    }
    let mut splits: Vec<Split> = Vec::new();
    if let Some(table) = table {
        let sentences = table.splits.into_iter().flat_map(|split| split.sentences).collect();
        splits.push(Split { name: AIMED.to_owned(), sentences });
    }
    let (mut sources, mut known) = (BTreeSet::new(), HashSet::new());
    for ((tree, file), part) in parts {
        for document in part.documents {
            if known.contains(&document) {
                let message = format!("document {document} appears twice, in this file or in one that was read before");
                return Err(Error::corpus(tree.path_of(file), message));
            }
            known.insert(document);
        }
        let split = match (name, &part.source) {
            (ALL, Some(source)) => source.clone(),
            (ALL, None) => {
                let message = "<corpus> has no attribute `source`, the name of the corpus; add it";
                return Err(Error::corpus(tree.path_of(file), message));
            }
            _ => SPLIT.to_owned(),
        };
        sources.extend(part.source);
        if let Some(types) = part.types {
            let path = tree.path_of(file).display().to_string();
            let reason = format!("the types of its entities ({types}) are not used: every entity is a protein");
            report.findings.push(Finding::new(FindingKind::Repaired, path, reason));
        }
        report.findings.extend(part.findings.into_iter().map(|finding| finding.within(&split)));
        match splits.iter_mut().find(|known| known.name == split) {
            Some(known) => known.sentences.extend(part.sentences),
            None => splits.push(Split { name: split, sentences: part.sentences }),
        }
    }
    splits.sort_by(|one, other| one.name.cmp(&other.name));
    let corpus = match (name, sources.pop_first(), sources.is_empty()) {
        (AIMED, Some(source), true) => source,
        (AIMED, ..) => ALL.to_owned(),
        _ => name.to_owned(),
    };
    Ok(Corpus { name: corpus, task: Task::ppi(), splits, folds: None, report })
}

fn skipped(tree: &Tree, file: &str, reason: &str) -> Finding {
    Finding::new(FindingKind::Skipped, tree.path_of(file).display().to_string(), reason)
}

/// The contents of one file.
struct Contents {
    /// The corpus, in lower case.
    source: Option<String>,
    /// Types of entities that are not `protein`.
    types: Option<String>,
    documents: Vec<String>,
    sentences: Vec<Sentence>,
    findings: Vec<Finding>,
}

fn read_file(path: &Path, text: &str) -> Result<Contents> {
    let document = xml::parse(path, text)?;
    let file = File { path, document: &document };
    let root = document.root_element();
    if !root.has_tag_name("corpus") {
        let message =
            format!("the outermost element is <{}>, not the <corpus> of the unified form", root.tag_name().name());
        return Err(file.error(root, message));
    }
    let has = |name: &str| root.descendants().find(|node| node.has_tag_name(name));
    let lists_pairs = match (has("pair"), has("interaction")) {
        (Some(_), Some(node)) => {
            return Err(file.error(node, "mixes <pair> and <interaction>: it is unclear which pairs are candidates"));
        }
        (pair, _) => pair.is_some(),
    };
    let mut contents = Contents {
        source: root.attribute("source").map(str::to_lowercase),
        types: None,
        documents: Vec::new(),
        sentences: Vec::new(),
        findings: Vec::new(),
    };
    // Entities keep their offsets as written until the convention of the whole file is known.
    let mut raw: Vec<Vec<RawEntity>> = Vec::new();
    let (mut nodes, mut known) = (Vec::new(), HashSet::new());
    for document in children(root, "document") {
        let document_id = file.attribute(document, "id")?;
        if !known.insert(document_id) {
            return Err(file.error(document, format!("document {document_id} appears twice")));
        }
        contents.documents.push(document_id.to_owned());
        for node in children(document, "sentence") {
            let id = file.attribute(node, "id")?.to_owned();
            let text = file.attribute(node, "text")?.to_owned();
            let document = document_id.to_owned();
            contents.sentences.push(Sentence { id, document, text, entities: Vec::new(), pairs: Vec::new() });
            raw.push(file.entities(node)?);
            nodes.push(node);
        }
    }
    let convention = find_convention(&file, &contents.sentences, &raw)?;
    contents.types = other_types(&raw);
    for ((sentence, raw), node) in contents.sentences.iter_mut().zip(&raw).zip(nodes) {
        for entity in raw {
            // `find_convention` has checked that every entity fits.
            let Some(spans) = to_spans(&entity.segments, convention, 0) else {
                return Err(file.mismatch(&sentence.id, &sentence.text, entity, None));
            };
            let (id, text) = (entity.id.to_owned(), entity.text.to_owned());
            sentence.entities.push(Entity { id, entity_type: PROTEIN.to_owned(), text, spans });
        }
        let by_id = file.by_id(node, sentence)?;
        if lists_pairs {
            for pair in children(node, "pair") {
                let id = file.attribute(pair, "id")?.to_owned();
                let (entity1, entity2) = file.arguments(pair, &by_id)?;
                let value = file.attribute(pair, "interaction")?;
                let label = match value.to_ascii_lowercase().as_str() {
                    "true" => 1,
                    "false" => 0,
                    _ => {
                        let message = format!("pair {id}: interaction is `{value}`; it must be True or False");
                        return Err(file.error(pair, message));
                    }
                };
                if entity1 == entity2 {
                    contents.findings.push(self_pair(id, label, &sentence.document));
                    continue;
                }
                sentence.pairs.push(Pair { id, entity1, entity2, label, row: None, concepts: None });
            }
        } else {
            let mut positives = HashSet::new();
            for interaction in children(node, "interaction") {
                let id = file.attribute(interaction, "id")?;
                let (entity1, entity2) = file.arguments(interaction, &by_id)?;
                if entity1 == entity2 {
                    contents.findings.push(self_pair(id.to_owned(), 1, &sentence.document));
                } else if !positives.insert((entity1.min(entity2), entity1.max(entity2))) {
                    let reason = "the same two mentions are listed as interacting twice";
                    let finding = Finding::new(FindingKind::Skipped, id, reason);
                    contents.findings.push(finding.of_document(&sentence.document));
                }
            }
            let count = sentence.entities.len();
            let pairs = (0..count).flat_map(|i| (i + 1..count).map(move |j| (i, j))).enumerate();
            sentence.pairs = pairs
                .map(|(number, (entity1, entity2))| Pair {
                    id: format!("{}.p{number}", sentence.id),
                    entity1,
                    entity2,
                    label: usize::from(positives.contains(&(entity1, entity2))),
                    row: None,
                    concepts: None,
                })
                .collect();
        }
    }
    Ok(contents)
}

/// A mention that interacts with itself is gold in some corpora, but not a candidate pair: there is
/// no second mention to mark.
fn self_pair(id: String, label: usize, document: &str) -> Finding {
    let kind = if label == 0 { FindingKind::Skipped } else { FindingKind::Lost };
    let finding = Finding::new(kind, id, "both arguments are the same mention");
    finding.of_document(document).labelled(label)
}

/// The first few types of entities that are not `protein`.
fn other_types(raw: &[Vec<RawEntity>]) -> Option<String> {
    const SHOWN: usize = 4;
    let types: BTreeSet<&str> = raw.iter().flatten().map(|entity| entity.entity_type).collect();
    let types: Vec<&str> = types.into_iter().filter(|name| !name.is_empty() && *name != PROTEIN).collect();
    let more = if types.len() > SHOWN { ", ..." } else { "" };
    (!types.is_empty()).then(|| format!("{}{more}", types[..types.len().min(SHOWN)].join(", ")))
}

/// The convention that fits every entity of the file.
fn find_convention(file: &File, sentences: &[Sentence], raw: &[Vec<RawEntity>]) -> Result<Convention> {
    let misfits = |convention| {
        let mut misfits = sentences.iter().zip(raw).flat_map(|(sentence, entities)| {
            let index = CharIndex::new(&sentence.text);
            let fits = move |entity: &RawEntity| {
                to_spans(&entity.segments, convention, 0)
                    .is_some_and(|spans| matches_mention(&index, &spans, entity.text))
            };
            entities.iter().filter(move |entity| !fits(entity)).map(move |entity| (sentence, entity))
        });
        let first = misfits.next();
        (first, first.map_or(0, |_| 1 + misfits.count()))
    };
    let (exclusive, inclusive) = (misfits(Convention::Exclusive), misfits(Convention::Inclusive));
    match (exclusive, inclusive) {
        ((None, _), _) => Ok(Convention::Exclusive),
        (_, (None, _)) => Ok(Convention::Inclusive),
        ((Some(exclusive), many), (Some(inclusive), few)) => {
            // Report the first entity that breaks the convention of most of the file.
            let (convention, (sentence, entity)) =
                if many <= few { (Convention::Exclusive, exclusive) } else { (Convention::Inclusive, inclusive) };
            let spans = to_spans(&entity.segments, convention, 0);
            Err(file.mismatch(&sentence.id, &sentence.text, entity, spans.as_deref()))
        }
    }
}
