//! Which files to read, and in which format.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;
use strum::{IntoStaticStr, VariantArray};

use crate::{Error, Result};

/// Deepest nesting of folders; a loop of symbolic links ends here.
const DEPTH_LIMIT: usize = 16;

/// The formats of documents, in the order in which messages list them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum DocumentFormat {
    /// `PMID|t|title`, `PMID|a|abstract`, then tab-separated mentions and relations; a blank line
    /// between documents.
    Pubtator,
    /// BioC in JSON: a collection, a list of documents, PubTator's export, or one of these on each
    /// line.
    BiocJson,
    /// BioC in XML.
    BiocXml,
    /// A `.txt` file with its `.ann` file.
    Brat,
}

named!(DocumentFormat, "format");

impl DocumentFormat {
    /// The extension of a file that is written in this format.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Pubtator => "pubtator",
            Self::BiocJson => "json",
            Self::BiocXml => "xml",
            Self::Brat => "ann",
        }
    }
}

/// A file of documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// The file; brat's `.ann`.
    pub path: PathBuf,
    /// Its format.
    pub format: DocumentFormat,
}

/// A file that is not read, with the reason.
pub type SkippedFile = (PathBuf, &'static str);

/// The files under some paths in a fixed order, and the skipped ones with the reason. A file that
/// is given directly may have any name, if the format is given. In a folder, the extensions decide:
/// `.txt`, `.pubtator`, `.json`, `.jsonl`, `.xml`, `.ann`, each also with `.gz`.
///
/// # Errors
/// [`Error::Io`] for what cannot be opened, [`Error::Config`] for a file whose format is unclear.
pub fn list_inputs(paths: &[PathBuf], format: Option<DocumentFormat>) -> Result<(Vec<Input>, Vec<SkippedFile>)> {
    if paths.is_empty() {
        return Err(Error::config("input", "give at least one file or folder"));
    }
    let (mut inputs, mut skipped) = (Vec::new(), Vec::new());
    for path in paths {
        let metadata = fs::metadata(path).map_err(Error::io(path))?;
        if metadata.is_dir() {
            walk(path, 0, format, &mut inputs, &mut skipped)?;
        } else if extension(path).as_deref() == Some("zip") {
            let message = "an archive cannot be read as a stream; unpack it and give the folder";
            return Err(Error::config("input", format!("{}: {message}", path.display())));
        } else if let Some(format) = format.or_else(|| guess(path)) {
            // For a brat document its text may be given instead of its annotation.
            let path = match format {
                DocumentFormat::Brat if extension(path).as_deref() == Some("txt") => path.with_extension("ann"),
                _ => path.clone(),
            };
            inputs.push(Input { path, format });
        } else {
            let message = format!("the format of {} is not clear from its name; state it", path.display());
            return Err(Error::config("format", message));
        }
    }
    Ok((inputs, skipped))
}

fn walk(
    folder: &Path,
    depth: usize,
    format: Option<DocumentFormat>,
    inputs: &mut Vec<Input>,
    skipped: &mut Vec<SkippedFile>,
) -> Result<()> {
    if depth > DEPTH_LIMIT {
        return Err(Error::corpus(folder, format!("folders are nested more than {DEPTH_LIMIT} deep")));
    }
    let entries = fs::read_dir(folder).map_err(Error::io(folder))?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(Error::io(folder))?;
    paths.sort_unstable();
    for path in paths {
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
            continue;
        }
        let metadata = fs::metadata(&path).map_err(Error::io(&path))?;
        if metadata.is_dir() {
            walk(&path, depth + 1, format, inputs, skipped)?;
        } else if extension(&path).as_deref() == Some("txt") && path.with_extension("ann").is_file() {
            // It is read with its .ann file.
        } else if format == Some(DocumentFormat::Brat) && extension(&path).as_deref() == Some("txt") {
            skipped.push((path, "a text without its .ann file"));
        } else {
            match guess(&path) {
                Some(found) if format.is_none_or(|wanted| wanted == found) => {
                    let input = Input { path, format: found };
                    match has_documents(&input) {
                        true => inputs.push(input),
                        false => skipped.push((input.path, "not a file of documents, by its first lines")),
                    }
                }
                Some(_) => skipped.push((path, "a file of another format")),
                None => skipped.push((path, "not a file of documents, by its name")),
            }
        }
    }
    Ok(())
}

/// The extension of a file's name in lower case, without `.gz`.
fn extension(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_string_lossy().to_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    Some(name.rsplit_once('.')?.1.to_owned())
}

fn guess(path: &Path) -> Option<DocumentFormat> {
    match extension(path)?.as_str() {
        "txt" | "pubtator" => Some(DocumentFormat::Pubtator),
        "json" | "jsonl" => Some(DocumentFormat::BiocJson),
        "xml" => Some(DocumentFormat::BiocXml),
        "ann" => Some(DocumentFormat::Brat),
        _ => None,
    }
}

/// Open a file and decompress gzip, which is recognised by the first bytes and not by the name.
/// `read` counts the bytes read of the file, before decompression.
///
/// # Errors
/// [`Error::Io`].
pub(super) fn open(path: &Path, read: Arc<AtomicU64>) -> Result<Box<dyn Read + Send>> {
    let file = fs::File::open(path).map_err(Error::io(path))?;
    let mut reader = BufReader::with_capacity(1 << 16, Counted { file, read });
    let compressed = reader.fill_buf().map_err(Error::io(path))?.starts_with(&[0x1f, 0x8b]);
    Ok(if compressed { Box::new(MultiGzDecoder::new(reader)) } else { Box::new(reader) })
}

/// A file that counts the bytes that are read.
struct Counted {
    file: fs::File,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// How many bytes of a file are inspected.
const HEAD: u64 = 1 << 16;

/// Whether a file in a folder looks like one of its format; a `readme.txt` next to PubTator files
/// does not. Only its first bytes decide, so that a file of documents with an error further down is
/// read and its error reported. An empty file, or one that cannot be opened, counts as one: its
/// reader reports why.
fn has_documents(input: &Input) -> bool {
    let mut head = Vec::new();
    let read = open(&input.path, Arc::default()).map(|file| file.take(HEAD).read_to_end(&mut head));
    let head = String::from_utf8_lossy(&head);
    if !matches!(read, Ok(Ok(_))) || head.trim().is_empty() {
        return true;
    }
    let has = |words: &[&str]| words.iter().any(|word| head.contains(word));
    match input.format {
        DocumentFormat::Pubtator => is_pubtator(head.trim_start_matches('\u{feff}')),
        DocumentFormat::BiocJson => has(&["\"passages\"", "\"documents\"", "\"PubTator3\""]),
        DocumentFormat::BiocXml => has(&["<collection", "<passage"]),
        // No other files have this extension.
        DocumentFormat::Brat => true,
    }
}

/// The first line is `id|t|...` or `id|a|...`, or has the tabs of a mention or relation.
fn is_pubtator(head: &str) -> bool {
    let line = head.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let title = line.split_once('|').is_some_and(|(id, rest)| !id.contains('\t') && rest.starts_with(['t', 'a']));
    (title && line.matches('|').count() > 1) || line.matches('\t').count() > 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lines_decide_whether_a_file_has_documents() {
        let folder = tempfile::tempdir().unwrap();
        let recognised = |name: &str, format: DocumentFormat, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            has_documents(&Input { path, format })
        };
        for (content, is) in [
            ("\n1|t|Title\n", true),
            ("\u{feff}1|t|Title\n", true),
            ("1|a|Text\n", true),
            ("1\t0\t3\tabc\tX\n", true),
            ("", true),
            ("These files are described elsewhere.\n", false),
            ("| a | table |\n", false),
            ("PMID\tsplit\n1\ttrain\n", false),
        ] {
            assert_eq!(recognised("a.txt", DocumentFormat::Pubtator, content), is, "{content:?}");
        }
        assert!(recognised("a.xml", DocumentFormat::BiocXml, "<collection><document></collection>"));
        assert!(!recognised("b.xml", DocumentFormat::BiocXml, "<document id=\"DDI.d1\"><sentence/></document>"));
        assert!(recognised("a.json", DocumentFormat::BiocJson, "{\"documents\": [{\"id\": 1"));
        assert!(!recognised("b.json", DocumentFormat::BiocJson, "{\"name\": \"settings\"}"));
    }
}
