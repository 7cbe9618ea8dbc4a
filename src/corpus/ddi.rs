//! DDIExtraction 2013: the authors' folder or their zip archive, in two forms.
//!
//! * `full`: `Train` and the part of `Test` for the DDI extraction task, as released.
//! * `blue`: train / dev / test of the BLUE benchmark, which most papers since 2019 score on. Its
//!   dev set is a sample of the training sentences, its test set has one document more, and its
//!   training set lacks a few things; see [`super::ddi_blue`].
//!
//! Ends of offsets are inclusive. In the released files one mention's offsets are one character off
//! (`DDI-DrugBank.d216.s16.e2`) and one true pair has no type (`DDI-DrugBank.d236.s29.p0`): both
//! are read as described at [`read_mention`] and [`read_label`] and reported as repaired.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use roxmltree::Node;

use super::files::{Tree, has_extension};
use super::offsets::{CharIndex, Convention, matches_mention, to_spans};
use super::reader::Reader;
use super::xml::{self, File, RawEntity, children};
use super::{Corpus, Entity, Finding, FindingKind, Pair, ReadOptions, Report, Sentence, Span, Split, Task, ddi_blue};
use crate::{Error, Result};

/// The one document of the test set for drug names whose pairs BLUE added to its test set (45, all
/// false; BLUE writes its identifier DDI-MedLine.d206 as DrugDDI.d21928724).
const BLUE_EXTRA_TEST_FILE: &str = "21928724.xml";

/// The part of the release that a file belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Train,
    Test,
    /// `Test for DrugNER task`: other documents, annotated for names.
    NameTest,
    /// Any other folder of documents.
    Other,
}

impl Part {
    /// The part by the names of the folders above the file; the nearest known name decides.
    fn of(folders: &[String]) -> Self {
        for folder in folders.iter().rev() {
            let folder = folder.to_lowercase();
            if folder.contains("drugner") {
                return Self::NameTest;
            } else if folder == "test" || folder.contains("ddi extraction") {
                return Self::Test;
            } else if folder == "train" {
                return Self::Train;
            }
        }
        Self::Other
    }
}

/// The contents of one file.
struct Contents {
    document: String,
    sentences: Vec<Sentence>,
    findings: Vec<Finding>,
}

pub(super) const READER: Reader = Reader { takes: &["splits"], read: |_, paths, options| read(paths, options) };

/// Read the release and build the splits.
fn read(paths: &[PathBuf], options: &ReadOptions) -> Result<Corpus> {
    let blue = match options.splits.as_deref() {
        None | Some("full") => false,
        Some("blue") => true,
        Some(other) => {
            return Err(Error::config(
                "splits",
                format!("`{other}` is not a form of the DDI corpus; choose full or blue"),
            ));
        }
    };
    let trees = paths.iter().map(|path| Tree::open(path)).collect::<Result<Vec<_>>>()?;
    let mut report = Report::default();
    let mut files = Vec::new();
    for (tree, name) in trees.iter().flat_map(|tree| tree.names().iter().map(move |name| (tree, name))) {
        let path = tree.path_of(name);
        let part = Part::of(&tree.folders(name));
        if !has_extension(name, "xml") {
            report.findings.push(Finding::new(FindingKind::Skipped, path.display().to_string(), "not an XML file"));
        } else if part == Part::NameTest && !(blue && name.ends_with(BLUE_EXTRA_TEST_FILE)) {
            let reason = "belongs to the test set for drug names, not for interactions";
            report.findings.push(Finding::new(FindingKind::Skipped, path.display().to_string(), reason));
        } else {
            files.push((tree, name, path, part));
        }
    }
    if files.is_empty() {
        return Err(Error::corpus(&paths[0], "no .xml file of DDIExtraction 2013 was found"));
    }
    let task = Task::ddi();
    let read = |(tree, name, path, _): &(&Tree, &String, PathBuf, Part)| read_file(path, &tree.read(name)?, &task);
    let contents: Vec<Result<Contents>> = files.par_iter().map(read).collect();

    let mut documents: HashMap<String, PathBuf> = HashMap::new();
    let (mut train, mut test, mut other_sentences) = (Vec::new(), Vec::new(), Vec::new());
    for (contents, (_, _, path, part)) in contents.into_iter().zip(files) {
        let contents = contents?;
        if let Some(first) = documents.insert(contents.document.clone(), path.clone()) {
            let message = format!("document {} is also in {}", contents.document, first.display());
            return Err(Error::corpus(path, message));
        }
        let (name, sentences) = match part {
            Part::Train => ("train", &mut train),
            Part::Test | Part::NameTest => ("test", &mut test),
            Part::Other => ("all", &mut other_sentences),
        };
        sentences.extend(contents.sentences);
        let findings = contents.findings.into_iter();
        report.findings.extend(findings.map(|finding| finding.of_document(&contents.document).within(name)));
    }
    let splits = if blue {
        ddi_blue::splits(&paths[0], train, test, &mut report)?
    } else {
        let named = [("train", train), ("test", test), ("all", other_sentences)];
        named
            .into_iter()
            .filter(|(_, sentences)| !sentences.is_empty())
            .map(|(name, sentences)| Split { name: name.to_owned(), sentences })
            .collect()
    };
    Ok(Corpus { name: "ddi".into(), task, splits, folds: None, report })
}

fn read_file(path: &Path, text: &str, task: &Task) -> Result<Contents> {
    let document = xml::parse(path, text)?;
    let file = File { path, document: &document };
    let root = document.root_element();
    if !root.has_tag_name("document") {
        let name = root.tag_name().name();
        return Err(
            file.error(root, format!("the outermost element is <{name}>, not the <document> of the DDI corpus"))
        );
    }
    let document = file.attribute(root, "id")?.to_owned();
    let (mut sentences, mut findings) = (Vec::new(), Vec::new());
    for node in children(root, "sentence") {
        let id = file.attribute(node, "id")?.to_owned();
        let text = file.attribute(node, "text")?.to_owned();
        let mut sentence = Sentence { id, document: document.clone(), text, entities: Vec::new(), pairs: Vec::new() };
        for raw in file.entities(node)? {
            let (id, entity_type, text) = (raw.id.to_owned(), raw.entity_type.to_owned(), raw.text.to_owned());
            let spans = read_mention(&file, &sentence, &raw, &mut findings)?;
            if !task.candidates.includes(&entity_type) {
                let message =
                    format!("entity {id} has the type `{entity_type}`; the corpus has drug, brand, group, drug_n");
                return Err(file.error(node, message));
            }
            sentence.entities.push(Entity { id, entity_type, text, spans });
        }
        let by_id = file.by_id(node, &sentence)?;
        for pair in children(node, "pair") {
            let id = file.attribute(pair, "id")?.to_owned();
            let (entity1, entity2) = file.arguments(pair, &by_id)?;
            let label = read_label(&file, pair, &id, task, &mut findings)?;
            if entity1 == entity2 {
                let kind = if Some(label) == task.negative { FindingKind::Skipped } else { FindingKind::Lost };
                findings.push(Finding::new(kind, id, "both arguments are the same mention").labelled(label));
                continue;
            }
            sentence.pairs.push(Pair { id, entity1, entity2, label, row: None, concepts: None });
        }
        sentences.push(sentence);
    }
    Ok(Contents { document, sentences, findings })
}

/// The spans of a mention. Offsets that do not match the mention's text, but do when all of them
/// are moved by one character, are moved and reported as repaired.
fn read_mention(file: &File, sentence: &Sentence, raw: &RawEntity, findings: &mut Vec<Finding>) -> Result<Vec<Span>> {
    let index = CharIndex::new(&sentence.text);
    let at = |shift| to_spans(&raw.segments, Convention::Inclusive, shift);
    let fitting = |shift| at(shift).filter(|spans| matches_mention(&index, spans, raw.text));
    if let Some(spans) = fitting(0) {
        return Ok(spans);
    }
    match (fitting(1), fitting(-1)) {
        (Some(spans), None) | (None, Some(spans)) => {
            let reason = "its offsets are one character off; moved to match its text";
            findings.push(Finding::new(FindingKind::Repaired, raw.id, reason));
            Ok(spans)
        }
        _ => Err(file.mismatch(&sentence.id, &sentence.text, raw, at(0).as_deref())),
    }
}

/// The label of a pair. A true pair without a type becomes `int`, "an interaction is stated, and no
/// more": so do the corpus's own BRAT copy for the one such pair, and the BLUE benchmark in its
/// published counts.
fn read_label(file: &File, pair: Node, id: &str, task: &Task, findings: &mut Vec<Finding>) -> Result<usize> {
    let name = match (pair.attribute("ddi"), pair.attribute("type")) {
        (Some("false"), _) => "false",
        (Some("true"), Some(name)) => name,
        (Some("true"), None) => {
            let reason = "a true pair without a type; read as int, as the corpus's BRAT copy has it";
            findings.push(Finding::new(FindingKind::Repaired, id, reason));
            "int"
        }
        (value, _) => {
            let value = value.unwrap_or_default();
            return Err(file.error(pair, format!("pair {id}: ddi is `{value}`; it must be true or false")));
        }
    };
    task.label(name).ok_or_else(|| {
        file.error(pair, format!("pair {id} has the type `{name}`; the corpus has {}", task.labels[1..].join(", ")))
    })
}
