//! The unified XML form of the protein-protein interaction corpora (AIMed, BioInfer, HPRD50, IEPA,
//! LLL).
//!
//! Two dialects are in circulation, and both are read. One lists every candidate pair as `<pair
//! interaction="True|False">`. The other lists only the positives, as `<interaction>`; there any
//! two mentions of a sentence are a candidate pair. Copies also differ in whether the end of a
//! `charOffset` is the last character or one past it, so that is decided for each file by comparing
//! the offsets with the mentions' texts; a file where neither convention fits is refused.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::files::{Tree, has_extension};
use super::offsets::{CharIndex, Convention, matches_mention, to_spans};
use super::pairs_tsv::SPLIT;
use super::reader::Reader;
use super::xml::{self, File, RawEntity, children};
use super::{Candidates, Corpus, Entity, Finding, FindingKind, Pair, Report, Sentence, Split, Task, pairs_tsv};
use crate::{Error, Result};

pub(super) const READER: Reader = Reader { takes: &[], read: |_, paths, _| read(paths) };

/// Read XML files, folders or archives of them, or the flat table of pairs.
///
/// A folder with a table of pairs and XML files is read from the table, which states the published
/// folds; the XML files are then reported as skipped.
fn read(paths: &[PathBuf]) -> Result<Corpus> {
    let trees = paths.iter().map(|path| Tree::open(path)).collect::<Result<Vec<_>>>()?;
    let files = |extension: &str| -> Vec<(&Tree, &String)> {
        let all = trees.iter().flat_map(|tree| tree.names().iter().map(move |name| (tree, name)));
        all.filter(|(_, name)| has_extension(name, extension)).collect()
    };
    let (tables, documents) = (files("tsv"), files("xml"));
    let mut corpus = match (tables.as_slice(), documents.as_slice()) {
        ([], []) => return Err(Error::corpus(&paths[0], "no .xml file of the unified PPI form and no .tsv of pairs")),
        ([], documents) => read_xml(documents)?,
        (tables, _) => {
            let mut corpus = pairs_tsv::read(tables)?;
            corpus.report.findings.extend(documents.iter().map(|(tree, name)| {
                let reason = "another form of the corpus; the table of pairs was read";
                Finding::new(FindingKind::Skipped, tree.path_of(name).display().to_string(), reason)
            }));
            corpus
        }
    };
    for (tree, name) in trees.iter().flat_map(|tree| tree.names().iter().map(move |name| (tree, name))) {
        if !has_extension(name, "xml") && !has_extension(name, "tsv") {
            let reason = "not a file of this corpus";
            let path = tree.path_of(name).display().to_string();
            corpus.report.findings.push(Finding::new(FindingKind::Skipped, path, reason));
        }
    }
    Ok(corpus)
}

/// The contents of one file.
struct Contents {
    source: Option<String>,
    documents: Vec<String>,
    sentences: Vec<Sentence>,
    findings: Vec<Finding>,
}

fn read_xml(files: &[(&Tree, &String)]) -> Result<Corpus> {
    let read = |(tree, name): &(&Tree, &String)| read_file(&tree.path_of(name), &tree.read(name)?);
    let parts: Vec<Result<Contents>> = files.par_iter().map(read).collect();
    let (mut sentences, mut report, mut sources, mut documents) =
        (Vec::new(), Report::default(), BTreeSet::new(), HashSet::new());
    for (part, (tree, name)) in parts.into_iter().zip(files) {
        let part = part?;
        for document in part.documents {
            if documents.contains(&document) {
                let message = format!("document {document} appears twice, in this file or in one that was read before");
                return Err(Error::corpus(tree.path_of(name), message));
            }
            documents.insert(document);
        }
        sentences.extend(part.sentences);
        report.findings.extend(part.findings);
        sources.extend(part.source);
    }
    let name = match (sources.pop_first(), sources.is_empty()) {
        (Some(source), true) => source.to_lowercase(),
        _ => "ppi".to_owned(),
    };
    let types: BTreeSet<&str> = sentences
        .iter()
        .flat_map(|sentence| {
            sentence.pairs.iter().flat_map(|pair| [pair.entity1, pair.entity2]).map(|e| &sentence.entities[e])
        })
        .map(|entity| entity.entity_type.as_str())
        .collect();
    let types: Vec<&str> = types.into_iter().collect();
    let tags: BTreeMap<_, _> =
        types.iter().map(|entity_type| ((*entity_type).to_owned(), "PROTEIN".to_owned())).collect();
    let task = Task { candidates: Candidates::among(&types), tags, ..Task::ppi() };
    let splits = vec![Split { name: SPLIT.to_owned(), sentences }];
    Ok(Corpus { name, task, splits, folds: None, report })
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
        source: root.attribute("source").map(str::to_owned),
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
    for ((sentence, raw), node) in contents.sentences.iter_mut().zip(&raw).zip(nodes) {
        for entity in raw {
            // `find_convention` has checked that every entity fits.
            let Some(spans) = to_spans(&entity.segments, convention, 0) else {
                return Err(file.mismatch(&sentence.id, &sentence.text, entity, None));
            };
            let entity_type = if entity.entity_type.is_empty() { "protein" } else { entity.entity_type };
            let (id, text) = (entity.id.to_owned(), entity.text.to_owned());
            sentence.entities.push(Entity { id, entity_type: entity_type.to_owned(), text, spans });
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
                    contents.findings.push(finding.of_document(&sentence.document).within(SPLIT));
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
    finding.of_document(document).within(SPLIT).labelled(label)
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
