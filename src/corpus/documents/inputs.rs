//! Which files to read, and in which format.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;
use strum::{IntoStaticStr, VariantArray};

use super::table_names;
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
    /// A `.txt` file with its `.a1` file and, if there are annotations to learn from, its `.a2` file.
    Bionlp,
    /// DrugProt's tables of abstracts, entities and, if there are any, relations.
    Drugprot,
    /// Prodigy's JSON lines: `text`, `spans`, `relations`.
    Prodigy,
    /// BigBio's `kb` schema in JSON: `passages`, `entities`, `relations`.
    Bigbio,
    /// Label Studio's JSON export: a list of tasks.
    LabelStudio,
    /// INCEpTION's UIMA CAS in JSON, one document per file.
    Inception,
    /// Plain text, one document per file, without entities. A file is never taken for one unless the
    /// format is stated.
    Text,
}

named!(DocumentFormat, "format");

impl DocumentFormat {
    /// The extension of a file that is written in this format.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Pubtator => "pubtator",
            Self::BiocJson | Self::LabelStudio | Self::Inception => "json",
            Self::Prodigy | Self::Bigbio => "jsonl",
            Self::BiocXml => "xml",
            Self::Brat => "ann",
            Self::Bionlp => "a2",
            Self::Drugprot => "tsv",
            Self::Text => "txt",
        }
    }

    /// Whether a file's first bytes look like this format.
    fn fits(self, head: &str) -> bool {
        let has = |words: &[&str]| words.iter().any(|word| head.contains(word));
        match self {
            Self::Pubtator => is_pubtator(head.trim_start_matches('\u{feff}')),
            Self::Bigbio => has(&["\"document_id\""]) && has(&["\"passages\""]) && !has(&["\"infons\""]),
            Self::BiocJson => has(&["\"passages\"", "\"documents\"", "\"PubTator3\""]),
            Self::Prodigy => has(&["\"text\""]) && has(&["\"spans\"", "\"head_span\"", "\"_input_hash\""]),
            Self::LabelStudio => {
                // `data` may follow a long annotation.
                has(&["\"data\"", "\"from_name\""]) && has(&["\"annotations\"", "\"completions\"", "\"predictions\""])
            }
            Self::Inception => has(&["\"%FEATURE_STRUCTURES\"", "\"%TYPES\""]),
            Self::BiocXml => has(&["<collection", "<passage"]),
            // No other files have these names.
            Self::Brat | Self::Bionlp | Self::Drugprot | Self::Text => true,
        }
    }
}

/// A file of documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// The file; brat's `.ann`, BioNLP's `.a1`, DrugProt's table of abstracts.
    pub path: PathBuf,
    /// Its format.
    pub format: DocumentFormat,
}

/// A file that is not read, with the reason.
pub type SkippedFile = (PathBuf, &'static str);

/// The files under some paths in a fixed order, and the skipped ones with the reason. A file that
/// is given directly may have any name, if the format is given. In a folder, extensions and first
/// bytes decide: `.txt`, `.pubtator`, `.json`, `.jsonl`, `.ndjson`, `.xml`, `.ann`, `.a1`, and
/// `.tsv` for DrugProt's tables, each also with `.gz`.
///
/// # Errors
/// [`Error::Io`] for what cannot be opened, [`Error::Config`] for a file whose format is unclear.
pub fn list_inputs(paths: &[PathBuf], format: Option<DocumentFormat>) -> Result<(Vec<Input>, Vec<SkippedFile>)> {
    list(paths, format, false)
}

/// The same for files to which entities will be added: a `.txt` file that has another format than
/// PubTator's is plain text.
///
/// # Errors
/// As [`list_inputs`].
pub fn list_texts(paths: &[PathBuf], format: Option<DocumentFormat>) -> Result<(Vec<Input>, Vec<SkippedFile>)> {
    list(paths, format, true)
}

fn list(paths: &[PathBuf], format: Option<DocumentFormat>, plain: bool) -> Result<(Vec<Input>, Vec<SkippedFile>)> {
    if paths.is_empty() {
        return Err(Error::config("input", "give at least one file or folder"));
    }
    let (mut inputs, mut skipped) = (Vec::new(), Vec::new());
    for path in paths {
        let metadata = fs::metadata(path).map_err(Error::io(path))?;
        if metadata.is_dir() {
            walk(path, 0, (format, plain), &mut inputs, &mut skipped)?;
        } else if extension(path).as_deref() == Some("zip") {
            let message = "an archive cannot be read as a stream; unpack it and give the folder";
            return Err(Error::config("input", format!("{}: {message}", path.display())));
        } else if let Some(format) = format.or_else(|| detect(path, plain)) {
            // A companion may be given instead of the file with the annotations, or beside it.
            let Some(path) = main_file(path, format) else { continue };
            let input = Input { path, format };
            if !inputs.contains(&input) {
                inputs.push(input);
            }
        } else if !is_companion(path) {
            let message = format!("the format of {} is not clear from its name; state it", path.display());
            return Err(Error::config("format", message));
        }
    }
    Ok((inputs, skipped))
}

/// The format of a file, by its name and first bytes. If these fit none, it is the most usual format
/// of files with its extension, whose reader then says what is wrong.
fn detect(path: &Path, plain: bool) -> Option<DocumentFormat> {
    let formats = formats_of(path, plain);
    let found = head(path).and_then(|head| formats.iter().find(|format| format.fits(&head)));
    found.or(usual(formats)).copied()
}

/// The most usual of some formats.
fn usual(formats: &[DocumentFormat]) -> Option<&DocumentFormat> {
    formats.iter().find(|format| **format == DocumentFormat::BiocJson).or(formats.first())
}

/// The file to open for a file that was given, in a format of several files per document; `None` for
/// one that is read with another.
fn main_file(path: &Path, format: DocumentFormat) -> Option<PathBuf> {
    let extension = extension(path);
    let wanted = match (format, extension.as_deref()) {
        (DocumentFormat::Brat, Some("txt")) => "ann",
        (DocumentFormat::Bionlp, Some("txt" | "a2")) => "a1",
        (DocumentFormat::Drugprot, _) if table_names::belongs_to_abstracts(path) => return None,
        _ => return Some(path.to_owned()),
    };
    Some(with_extension(path, wanted).unwrap_or_else(|| path.with_extension(wanted)))
}

/// Whether a file is read together with another one beside it.
fn is_companion(path: &Path) -> bool {
    let beside = |wanted: &str| with_extension(path, wanted).is_some();
    match extension(path).as_deref() {
        Some("txt") => beside("ann") || beside("a1"),
        Some("a2") => beside("a1"),
        Some("tsv") => table_names::belongs_to_abstracts(path),
        _ => false,
    }
}

/// The file with the same name but another extension, if it exists; either may be compressed.
pub(super) fn with_extension(path: &Path, wanted: &str) -> Option<PathBuf> {
    let name = path.to_string_lossy();
    let plain = Path::new(name.strip_suffix(".gz").unwrap_or(&name)).with_extension(wanted);
    let packed = PathBuf::from(format!("{}.gz", plain.display()));
    [plain, packed].into_iter().find(|path| path.is_file())
}

fn walk(
    folder: &Path,
    depth: usize,
    (format, plain): (Option<DocumentFormat>, bool),
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
            walk(&path, depth + 1, (format, plain), inputs, skipped)?;
            continue;
        }
        let is_text = extension(&path).as_deref() == Some("txt");
        let reason = match format {
            Some(DocumentFormat::Text) if is_text => {
                inputs.push(Input { path, format: DocumentFormat::Text });
                continue;
            }
            _ if is_companion(&path) => continue,
            Some(DocumentFormat::Brat) if is_text => "a text without its .ann file",
            Some(DocumentFormat::Bionlp) if is_text => "a text without its .a1 file",
            _ => match (format, formats_of(&path, plain)) {
                (_, []) => "not a file of documents, by its name",
                (Some(wanted), formats) if !formats.contains(&wanted) => "a file of another format",
                (wanted, formats) => {
                    // An empty file, or one that cannot be opened: its reader reports why.
                    let Some(head) = head(&path) else {
                        inputs.extend(wanted.or(usual(formats).copied()).map(|format| Input { path, format }));
                        continue;
                    };
                    match formats.iter().find(|format| format.fits(&head)) {
                        Some(&found) if wanted.is_none_or(|wanted| wanted == found) => {
                            inputs.push(Input { path, format: found });
                            continue;
                        }
                        Some(_) => "a file of another format",
                        None => "not a file of documents, by its first lines",
                    }
                }
            },
        };
        skipped.push((path, reason));
    }
    Ok(())
}

/// The extension of a file's name in lower case, without `.gz`.
fn extension(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_string_lossy().to_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    Some(name.rsplit_once('.')?.1.to_owned())
}

/// The formats that a file may have by its name; of those that its first bytes fit, the first one
/// counts.
fn formats_of(path: &Path, plain: bool) -> &'static [DocumentFormat] {
    use DocumentFormat as Format;
    match extension(path).as_deref() {
        Some("txt") if plain => &[Format::Pubtator, Format::Text],
        Some("txt" | "pubtator") => &[Format::Pubtator],
        Some("json" | "jsonl" | "ndjson") => {
            &[Format::Inception, Format::Bigbio, Format::BiocJson, Format::Prodigy, Format::LabelStudio]
        }
        Some("xml") => &[Format::BiocXml],
        Some("ann") => &[Format::Brat],
        Some("a1") => &[Format::Bionlp],
        Some("tsv") if table_names::kind(path) == Some("abstracts") => &[Format::Drugprot],
        _ => &[],
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

/// The first bytes of a file, from which its format is told; a `readme.txt` beside PubTator files is
/// none of them. Only these decide, so that a file of documents with an error further down is read
/// and its error reported. `None` if it is empty or cannot be opened.
fn head(path: &Path) -> Option<String> {
    let mut head = Vec::new();
    open(path, Arc::default()).ok()?.take(HEAD).read_to_end(&mut head).ok()?;
    let head = String::from_utf8_lossy(&head);
    (!head.trim().is_empty()).then(|| head.into_owned())
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
        let detected = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            let (inputs, _) = list_inputs(&[folder.path().to_owned()], None).unwrap();
            std::fs::remove_file(&path).unwrap();
            inputs.first().map(|input| input.format)
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
            assert_eq!(detected("a.txt", content), is.then_some(DocumentFormat::Pubtator), "{content:?}");
        }
        assert_eq!(detected("a.xml", "<collection><document></collection>"), Some(DocumentFormat::BiocXml));
        assert_eq!(detected("b.xml", "<document id=\"DDI.d1\"><sentence/></document>"), None);
        for (content, format) in [
            ("{\"documents\": [{\"id\": 1", Some(DocumentFormat::BiocJson)),
            ("{\"id\": \"0\", \"document_id\": \"1\", \"passages\": []}", Some(DocumentFormat::Bigbio)),
            ("{\"text\": \"a\", \"spans\": []}", Some(DocumentFormat::Prodigy)),
            ("[{\"id\": 1, \"annotations\": [], \"data\": {\"text\": \"a\"}}]", Some(DocumentFormat::LabelStudio)),
            ("{\"%TYPES\": {}, \"%FEATURE_STRUCTURES\": []}", Some(DocumentFormat::Inception)),
            ("{\"text\": \"a\", \"entities\": []}", None),
            ("{\"name\": \"settings\"}", None),
        ] {
            assert_eq!(detected("a.json", content), format, "{content}");
        }
        assert_eq!(detected("x_abstracs.tsv", "1\ta\tb\n"), Some(DocumentFormat::Drugprot));
        assert_eq!(detected("x.tsv", "1\ta\tb\n"), None);
        assert_eq!(detected("x.a1", "T1\tProtein 0 1\ta\n"), Some(DocumentFormat::Bionlp));
    }
}
