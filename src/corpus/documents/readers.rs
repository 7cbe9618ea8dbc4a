//! Corpora of documents from files: which files are read, into which split, and with which task.
//!
//! BioRED, BC5CDR and DrugProt are known by name: their labels and candidate pairs do not depend on
//! the files. Their releases have the same documents in several formats; of each split, one is read.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::document::Document;
use super::gold::{Known, duplicate, of_documents, unreadable};
use super::inputs::{DocumentFormat, Input, list_inputs};
use super::records::Records;
use super::table_names::table_of;
use crate::corpus::reader::Reader;
use crate::corpus::{Corpus, Finding, FindingKind, ReadOptions, Task};
use crate::{Error, Result};

pub(in crate::corpus) const PUBTATOR: Reader =
    reader(|name, paths, options| read(name, &[DocumentFormat::Pubtator], None, paths, options));
pub(in crate::corpus) const BIOC: Reader = reader(|name, paths, options| {
    read(name, &[DocumentFormat::BiocJson, DocumentFormat::BiocXml], None, paths, options)
});
pub(in crate::corpus) const BRAT: Reader =
    reader(|name, paths, options| read(name, &[DocumentFormat::Brat], None, paths, options));
pub(in crate::corpus) const BIONLP: Reader =
    reader(|name, paths, options| read(name, &[DocumentFormat::Bionlp], None, paths, options));
pub(in crate::corpus) const PRODIGY: Reader =
    reader(|name, paths, options| read(name, &[DocumentFormat::Prodigy], None, paths, options));
pub(in crate::corpus) const BIGBIO: Reader =
    reader(|name, paths, options| read(name, &[DocumentFormat::Bigbio], None, paths, options));
pub(in crate::corpus) const LABEL_STUDIO: Reader =
    reader(|name, paths, options| read(name, &[DocumentFormat::LabelStudio], None, paths, options));
pub(in crate::corpus) const INCEPTION: Reader =
    reader(|name, paths, options| read(name, &[DocumentFormat::Inception], None, paths, options));

/// The formats of a release in the order in which they are preferred. BC5CDR's XML has offsets that
/// count escaped text, and one that fits nowhere; PubTator's format has neither.
const RELEASE: [DocumentFormat; 3] = [DocumentFormat::Pubtator, DocumentFormat::BiocXml, DocumentFormat::BiocJson];

pub(in crate::corpus) const BIORED: Reader = known(|name, paths, options| {
    read(name, &RELEASE, Some(Known { task: Task::biored(), directed: false }), paths, options)
});
pub(in crate::corpus) const BC5CDR: Reader = known(|name, paths, options| {
    read(name, &RELEASE, Some(Known { task: Task::bc5cdr(), directed: true }), paths, options)
});
pub(in crate::corpus) const DRUGPROT: Reader = known(|name, paths, options| {
    let task = Known { task: Task::drugprot(), directed: true };
    read(name, &[DocumentFormat::Drugprot], Some(task), paths, options)
});

type Read = fn(&str, &[PathBuf], &ReadOptions) -> Result<Corpus>;

const fn reader(read: Read) -> Reader {
    Reader { takes: &["labels", "negative", "name", "pairs", "errors", "scope", "max_mentions", "attribute"], read }
}

const fn known(read: Read) -> Reader {
    Reader { takes: &["errors", "scope", "max_mentions", "attribute"], read }
}

/// Read the files and folders of a corpus in the format or with the name `name`, whose files are in
/// `formats`. The options decide whether a document that cannot be read is an error or is skipped
/// and reported.
fn read(
    name: &str,
    formats: &[DocumentFormat],
    known: Option<Known>,
    paths: &[PathBuf],
    options: &ReadOptions,
) -> Result<Corpus> {
    let only = if let [format] = formats { Some(*format) } else { None };
    let (inputs, skipped) = list_inputs(paths, only)?;
    let skip = |path: &Path, reason: &str| Finding::new(FindingKind::Skipped, path.display().to_string(), reason);
    let mut findings: Vec<Finding> = skipped.iter().map(|(path, reason)| skip(path, reason)).collect();
    let fits = |input: &Input| formats.contains(&input.format);
    let (mut inputs, others): (Vec<Input>, Vec<Input>) = inputs.into_iter().partition(fits);
    findings.extend(others.iter().map(|input| skip(&input.path, "a file of another format")));
    if inputs.is_empty() {
        let found = others.first().map(|other| format!("; {} is {}", other.path.display(), other.format));
        let message = format!("no file in the format {name} was found{}", found.unwrap_or_default());
        return Err(Error::corpus(&paths[0], message));
    }
    if known.is_some() {
        let without = leave_out(&mut inputs, formats, paths);
        if inputs.is_empty() {
            let message = "no table of relations: a set without gold relations is for prediction \
                           (biorel.predict_documents), not for training or scores";
            return Err(Error::corpus(&paths[0], message));
        }
        findings.extend(without.iter().map(|(path, reason)| skip(path, reason)));
    }
    let read = |input: &Input| -> Vec<Result<Document>> {
        match Records::open(input) {
            Ok(records) => records.map(|record| record.and_then(Document::parse)).collect(),
            Err(error) => vec![Err(error)],
        }
    };
    let parts: Vec<Vec<Result<Document>>> = inputs.par_iter().map(read).collect();
    let mut ids = HashSet::new();
    let mut splits: Vec<(String, Vec<Document>)> = Vec::new();
    for (part, input) in parts.into_iter().zip(&inputs) {
        let name = split_of(&input.path, paths);
        let split = match splits.iter().position(|(known, _)| known == name) {
            Some(split) => split,
            None => {
                splits.push((name.to_owned(), Vec::new()));
                splits.len() - 1
            }
        };
        for document in part {
            let document = document.and_then(|document| match ids.insert(document.id.clone()) {
                true => Ok(document),
                false => Err(duplicate(&document)),
            });
            match document {
                Ok(document) => splits[split].1.push(document),
                Err(error) if options.skip_errors => findings.push(unreadable(&input.path, &error).within(name)),
                Err(error) => return Err(error),
            }
        }
    }
    let mut corpus = of_documents(splits, options, name, known, &paths[0])?;
    findings.append(&mut corpus.report.findings);
    corpus.report.findings = findings;
    Ok(corpus)
}

/// Take away the files of a known corpus that are not needed: those whose split has a file in a
/// preferred format, and tables without gold relations. Returns them with the reasons.
fn leave_out(inputs: &mut Vec<Input>, formats: &[DocumentFormat], paths: &[PathBuf]) -> Vec<(PathBuf, &'static str)> {
    let rank = |input: &Input| formats.iter().position(|format| *format == input.format);
    let all: Vec<(&'static str, Option<usize>)> =
        inputs.iter().map(|input| (split_of(&input.path, paths), rank(input))).collect();
    let mut left_out = Vec::new();
    inputs.retain(|input| {
        let split = split_of(&input.path, paths);
        let best = all.iter().filter(|(other, _)| *other == split).map(|(_, rank)| rank).min();
        let reason = if best.is_some_and(|best| *best < rank(input)) {
            "another form of the documents of a split"
        } else if input.format == DocumentFormat::Drugprot && table_of(&input.path, "relations").is_none() {
            "a set without gold relations, for prediction"
        } else {
            return true;
        };
        left_out.push((input.path.clone(), reason));
        false
    });
    left_out
}

/// The split of a file, by the words of its own name, or else of its folders below the given path.
fn split_of(file: &Path, roots: &[PathBuf]) -> &'static str {
    let root = roots.iter().filter(|root| file.starts_with(root)).max_by_key(|root| root.as_os_str().len());
    let below = root.and_then(|root| file.strip_prefix(root).ok()).filter(|below| !below.as_os_str().is_empty());
    let name = PathBuf::from(file.file_name().unwrap_or_default());
    for part in below.unwrap_or(&name).iter().rev() {
        let part = part.to_string_lossy().to_lowercase();
        for word in part.split(|c: char| !c.is_alphanumeric()) {
            for (split, names) in [
                ("train", &["train", "training", "trainingset"][..]),
                ("dev", &["dev", "devel", "development", "developmentset", "valid", "validation"]),
                ("test", &["test", "testset", "testing"]),
            ] {
                if names.contains(&word) {
                    return split;
                }
            }
        }
    }
    "all"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_split_comes_from_names_of_files_and_folders() {
        let root = [PathBuf::from("/data/train/corpus")];
        for (file, split) in [
            ("/data/train/corpus/CDR_TrainingSet.PubTator.txt", "train"),
            ("/data/train/corpus/dev/1.ann", "dev"),
            ("/data/train/corpus/a/test.xml", "test"),
            ("/data/train/corpus/contest.xml", "all"),
            ("/data/train/corpus/x.json", "all"),
        ] {
            assert_eq!(split_of(Path::new(file), &root), split, "{file}");
        }
        // For a file that is given directly only its own name counts, not its folder.
        assert_eq!(split_of(Path::new("/train/x.txt"), &[PathBuf::from("/train/x.txt")]), "all");
        assert_eq!(split_of(Path::new("/x/test.txt"), &[PathBuf::from("/x/test.txt")]), "test");
    }
}
