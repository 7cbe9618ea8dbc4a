//! Splits a file into the bytes of its documents without parsing them, so that a file of any size
//! is read in bounded memory, and documents that are already processed are skipped quickly.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::bytes::{Bytes, RECORD_LIMIT, Stop};
use super::companion::{Companion, decode};
use super::inputs::{DocumentFormat, Input, open, with_extension};
use super::{json_records, table_records, xml_records};
use crate::{Error, Result};

/// The bytes of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The file.
    pub path: Arc<Path>,
    /// Line of its first byte, counted from 1.
    pub line: usize,
    /// Its format.
    pub format: DocumentFormat,
    /// The document as in the file; for brat and BioNLP, the annotation.
    pub raw: Vec<u8>,
    /// What it has in other files. brat: the text. BioNLP: the text and, if there is one, the `.a2`
    /// file. DrugProt: the rows of the entities and, if there is such a table, of the relations.
    pub companions: Vec<Companion>,
    /// The file before its first document.
    pub header: Arc<str>,
}

impl Record {
    /// The bytes of a record as text.
    pub(super) fn decode(bytes: Vec<u8>, path: &Path, line: usize) -> Result<String> {
        decode(bytes, path, line)
    }
}

/// A record, or why it cannot be read: the document is too large, or the rest of the file is
/// unreadable.
pub type RecordResult = Result<Record>;

/// The records of one file. The iterator ends after an error that affects the rest of the
/// file.
pub struct Records {
    path: Arc<Path>,
    format: DocumentFormat,
    source: Source,
    read: Arc<AtomicU64>,
}

enum Source {
    Lines {
        bytes: Bytes,
        next: Option<(usize, Vec<u8>)>,
    },
    Json(json_records::Splitter),
    Xml(xml_records::Splitter),
    Tables(table_records::Splitter),
    /// One document, which is not read yet.
    Single,
    Ended,
}

impl Records {
    /// Open a file.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(input: &Input) -> Result<Self> {
        let path: Arc<Path> = input.path.as_path().into();
        let read = Arc::new(AtomicU64::new(0));
        let source = match input.format {
            DocumentFormat::Brat | DocumentFormat::Bionlp | DocumentFormat::Text => Source::Single,
            DocumentFormat::Drugprot => Source::Tables(table_records::Splitter::open(&path, read.clone())?),
            format => Self::source(format, open(&path, read.clone())?),
        };
        Ok(Self { path, format: input.format, source, read })
    }

    /// How many bytes of the file have been read, before decompression.
    pub fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// The records of bytes in memory, for a format that has all documents in one file.
    #[cfg(test)]
    pub(super) fn of(format: DocumentFormat, content: &[u8]) -> Self {
        let reader = Box::new(io::Cursor::new(content.to_vec()));
        let path: Arc<Path> = Path::new("memory").into();
        Self { path, format, source: Self::source(format, reader), read: Arc::default() }
    }

    fn source(format: DocumentFormat, reader: Box<dyn Read + Send>) -> Source {
        let bytes = Bytes::new(reader);
        match format {
            DocumentFormat::Pubtator => Source::Lines { bytes, next: None },
            DocumentFormat::BiocXml => Source::Xml(xml_records::Splitter::new(bytes)),
            DocumentFormat::BiocJson
            | DocumentFormat::Prodigy
            | DocumentFormat::Bigbio
            | DocumentFormat::LabelStudio
            | DocumentFormat::Inception => Source::Json(json_records::Splitter::new(bytes)),
            DocumentFormat::Brat | DocumentFormat::Bionlp | DocumentFormat::Drugprot | DocumentFormat::Text => {
                Source::Ended
            }
        }
    }

    fn record(&self, (line, raw): (usize, Vec<u8>), header: Arc<str>) -> Record {
        Record { path: self.path.clone(), line, format: self.format, raw, companions: Vec::new(), header }
    }

    fn fail(&mut self, stop: Stop) -> Error {
        match stop {
            Stop::TooLarge(line) => {
                let message = format!("the document is larger than {} MiB", RECORD_LIMIT >> 20);
                Error::corpus_line(&*self.path, line, message)
            }
            Stop::Malformed(line, message) => {
                self.source = Source::Ended;
                Error::corpus_line(&*self.path, line, message)
            }
            Stop::Io(line, error) => {
                self.source = Source::Ended;
                match error.kind() {
                    // Corrupt gzip, not a failing disk.
                    io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                        let message = format!("the compressed file is corrupt here ({error}); the rest is lost");
                        Error::corpus_line(&*self.path, line, message)
                    }
                    _ => Error::Io { path: self.path.to_path_buf(), source: error },
                }
            }
        }
    }
}

impl Iterator for Records {
    type Item = RecordResult;

    fn next(&mut self) -> Option<RecordResult> {
        let none: Arc<str> = "".into();
        let (found, header) = match &mut self.source {
            Source::Lines { bytes, next } => (block(bytes, next), none),
            Source::Json(splitter) => (splitter.next(), splitter.header()),
            Source::Xml(splitter) => (splitter.next(), splitter.header()),
            Source::Tables(splitter) => match splitter.next() {
                Ok(Some(Ok((line, raw, companions)))) => {
                    return Some(Ok(Record { companions, ..self.record((line, raw), none) }));
                }
                Ok(Some(Err(error))) => return Some(Err(error)),
                Ok(None) => (Ok(None), none),
                Err(stop) => (Err(stop), none),
            },
            Source::Single => {
                self.source = Source::Ended;
                return Some(single(&self.path, self.format, &self.read));
            }
            Source::Ended => return None,
        };
        match found {
            Ok(Some(found)) => Some(Ok(self.record(found, header))),
            Ok(None) => {
                self.source = Source::Ended;
                None
            }
            Err(stop) => Some(Err(self.fail(stop))),
        }
    }
}

/// A file that is one document, with the files that belong to it.
fn single(path: &Arc<Path>, format: DocumentFormat, count: &Arc<AtomicU64>) -> RecordResult {
    let read = |path: &Path, count: Arc<AtomicU64>| -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        open(path, count)?.take(RECORD_LIMIT as u64 + 1).read_to_end(&mut bytes).map_err(Error::io(path))?;
        match bytes.len() > RECORD_LIMIT {
            true => Err(Error::corpus(path, format!("the document is larger than {} MiB", RECORD_LIMIT >> 20))),
            false => Ok(bytes),
        }
    };
    let companion = |extension: &str| -> Result<Option<Companion>> {
        let Some(file) = with_extension(path, extension) else { return Ok(None) };
        let raw = read(&file, Arc::default())?;
        Ok(Some(Companion { path: file.into(), raw, lines: Vec::new() }))
    };
    let raw = read(path, count.clone())?;
    let mut companions = Vec::new();
    if format != DocumentFormat::Text {
        let missing = || {
            let name = path.to_string_lossy();
            let plain = Path::new(name.strip_suffix(".gz").unwrap_or(&name)).with_extension("txt");
            Error::corpus(&**path, format!("its text {} is missing", plain.display()))
        };
        companions.push(companion("txt")?.ok_or_else(missing)?);
    }
    if format == DocumentFormat::Bionlp {
        companions.extend(companion("a2")?);
    }
    Ok(Record { path: path.clone(), line: 1, format, raw, companions, header: "".into() })
}

/// One PubTator document: the lines up to a blank line or the title of the next document.
fn block(
    bytes: &mut Bytes,
    next: &mut Option<(usize, Vec<u8>)>,
) -> std::result::Result<Option<(usize, Vec<u8>)>, Stop> {
    let (mut first, mut raw) = next.take().unwrap_or((0, Vec::new()));
    let mut large = false;
    let finish = |large: bool, first: usize, raw: Vec<u8>| match large {
        true => Err(Stop::TooLarge(first)),
        false => Ok(Some((first, raw))),
    };
    loop {
        let number = bytes.line();
        let mut line = Vec::new();
        let more = bytes.line_into(&mut line)?;
        let blank = line.iter().all(u8::is_ascii_whitespace);
        if !blank && !raw.is_empty() && is_title(&line) {
            *next = Some((number, line));
            return finish(large, first, raw);
        }
        if !blank {
            if raw.is_empty() {
                first = number;
            }
            large |= raw.len() + line.len() > RECORD_LIMIT;
            match large {
                true => raw = vec![b'.'],
                false => raw.extend(line),
            }
        } else if !raw.is_empty() || !more {
            return if raw.is_empty() { Ok(None) } else { finish(large, first, raw) };
        }
        if !more {
            return finish(large, first, raw);
        }
    }
}

/// `PMID|t|...`
fn is_title(line: &[u8]) -> bool {
    let bar = line.iter().position(|&byte| byte == b'|' || byte == b'\t');
    bar.is_some_and(|bar| line[bar..].starts_with(b"|t|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(content: &str) -> Vec<(usize, String)> {
        let records = Records::of(DocumentFormat::Pubtator, content.as_bytes());
        records.map(|record| record.unwrap()).map(|r| (r.line, String::from_utf8(r.raw).unwrap())).collect()
    }

    #[test]
    fn blocks_end_at_blank_lines_and_at_titles() {
        let found = split("\u{feff}\n1|t|A\r\n1|a|B\r\n\r\n \n2|t|C\n2|a|D\n2\t0\t1\tC\tX\n3|t|E");
        let expected = [(2, "1|t|A\r\n1|a|B\r\n"), (6, "2|t|C\n2|a|D\n2\t0\t1\tC\tX\n"), (9, "3|t|E")];
        assert_eq!(found, expected.map(|(line, raw)| (line, raw.to_owned())));
        assert!(split("").is_empty() && split("\n\n \r\n").is_empty());
        assert_eq!(split("1|t|A\n").len(), 1);
    }

    #[test]
    fn only_the_oversized_document_is_lost() {
        let mut content = b"1|t|A\n1|a|".to_vec();
        content.resize(RECORD_LIMIT + 100, b'x');
        content.extend(b"\n1\t0\t1\tA\tX\n\n2|t|B\n2|a|C\n");
        let found: Vec<RecordResult> = Records::of(DocumentFormat::Pubtator, &content).collect();
        assert_eq!(found.len(), 2);
        assert!(found[0].as_ref().unwrap_err().to_string().starts_with("memory:1: the document is larger than 64 MiB"));
        assert_eq!(found[1].as_ref().unwrap().line, 5);
    }
}
