//! Texts as word pieces in a temporary file, so that memory stays bounded however many there are:
//! 8 bytes for each part of a text, and 4 for each text.
//!
//! The file has no name where the system allows that, and in any case none after the process has
//! ended. It has four bytes for each piece: the id, and whether the piece starts a word.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::corpus::Span;
use crate::encode::{Features, Tokenizer};
use crate::{Error, Result};

/// Marks a piece that starts a word.
const STARTS_WORD: u32 = 1 << 31;
/// Bytes of a piece in the file.
const PIECE: usize = size_of::<u32>();

/// The parts of texts, of at most as many pieces as the encoder is to read.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    file: Mutex<File>,
    /// `[CLS]` and `[SEP]`, which the file omits.
    around: [u32; 2],
    max_length: usize,
    /// Where each part ends, in pieces.
    ends: Vec<u64>,
    /// The number of parts of each text.
    texts: Vec<u32>,
    hash: Sha256,
}

impl Spool {
    /// An empty one in this directory, which is created if need be.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn new(directory: &Path, tokenizer: &Tokenizer, max_length: usize) -> Result<Self> {
        let file = std::fs::create_dir_all(directory).and_then(|()| tempfile::tempfile_in(directory));
        Ok(Self::of(file.map_err(Error::io(directory))?, directory, tokenizer, max_length))
    }

    fn of(file: File, directory: &Path, tokenizer: &Tokenizer, max_length: usize) -> Self {
        Self {
            directory: directory.to_path_buf(),
            file: Mutex::new(file),
            around: [tokenizer.cls_id(), tokenizer.sep_id()],
            max_length,
            ends: Vec::new(),
            texts: Vec::new(),
            hash: Sha256::new(),
        }
    }

    /// Append texts, which are tokenised in parallel. How many are given at once changes nothing.
    ///
    /// # Errors
    /// [`Error::Config`] for a text that the tokenizer refuses, by its number; [`Error::Io`].
    pub fn extend<T: AsRef<str> + Sync>(&mut self, tokenizer: &Tokenizer, texts: &[T]) -> Result<()> {
        // All results are collected first, so that the first error by position is reported.
        let parts = |text: &T| tokenizer.parts(text.as_ref(), self.max_length);
        let all: Vec<Result<Vec<Features>>> = texts.par_iter().map(parts).collect();
        let mut bytes = Vec::new();
        for parts in all {
            let parts = parts.map_err(|error| match error {
                Error::Config { field, message } if field == "text" => {
                    Error::config("texts", format!("number {}, counted from 0, {message}", self.texts.len()))
                }
                other => other,
            })?;
            self.hash.update(parts.len().to_le_bytes());
            for part in &parts {
                let start = bytes.len();
                let mut previous = None;
                // Only `[CLS]` and `[SEP]` are of no word.
                for (id, word) in part.ids.iter().zip(&part.words).filter(|(_, word)| word.is_some()) {
                    let piece = if previous == *word { *id } else { id | STARTS_WORD };
                    previous = *word;
                    bytes.extend(piece.to_le_bytes());
                }
                let part = &bytes[start..];
                self.hash.update(part.len().to_le_bytes());
                self.hash.update(part);
                self.ends.push(self.pieces_before(self.ends.len()) + (part.len() / PIECE) as u64);
            }
            self.texts.push(u32::try_from(parts.len()).unwrap_or(u32::MAX));
        }
        let file = self.file.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
        let written = file.seek(SeekFrom::End(0)).and_then(|_| file.write_all(&bytes));
        written.map_err(Error::io(&self.directory))
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// The most pieces of a part, `[CLS]` and `[SEP]` included.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// The numbers of the parts of the texts that are trained on, and of those that are held out, whose
    /// numbers are `held_out`, in ascending order.
    pub fn divide(&self, held_out: &[usize]) -> [Vec<usize>; 2] {
        let mut sides = [Vec::new(), Vec::new()];
        let (mut first, mut held_out) = (0, held_out.iter().peekable());
        for (number, parts) in self.texts.iter().enumerate() {
            let parts = first..first + *parts as usize;
            first = parts.end;
            sides[usize::from(held_out.next_if_eq(&&number).is_some())].extend(parts);
        }
        sides
    }

    /// The number of pieces of a part, `[CLS]` and `[SEP]` included.
    pub fn pieces(&self, part: usize) -> usize {
        let range = self.range(part);
        (range.end - range.start) as usize + self.around.len()
    }

    /// A part.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn read(&self, part: usize) -> Result<Features> {
        let range = self.range(part);
        let mut bytes = vec![0; (range.end - range.start) as usize * PIECE];
        let mut file = self.file.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let read = file.seek(SeekFrom::Start(range.start * PIECE as u64)).and_then(|_| file.read_exact(&mut bytes));
        drop(file);
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "the temporary file of the texts was cut"),
            _ => error,
        })
        .map_err(Error::io(&self.directory))?;
        let length = bytes.len() / PIECE + self.around.len();
        let [cls, sep] = self.around;
        let (mut ids, mut words) = (Vec::with_capacity(length), Vec::with_capacity(length));
        ids.push(cls);
        words.push(None);
        let mut word = 0u32;
        for (index, piece) in bytes.as_chunks::<PIECE>().0.iter().map(|piece| u32::from_le_bytes(*piece)).enumerate() {
            word += u32::from(index > 0 && piece & STARTS_WORD != 0);
            ids.push(piece & !STARTS_WORD);
            words.push(Some(word));
        }
        ids.push(sep);
        words.push(None);
        let entities = [Span::new(0, 0); 2];
        Ok(Features { ids, spans: vec![], words, entities, further: vec![], marker_types: None, cut: 0, label: None })
    }

    /// A digest of the parts of all texts.
    pub fn digest(&self) -> [u8; 32] {
        self.hash.clone().finalize().into()
    }

    fn range(&self, part: usize) -> Range<u64> {
        self.pieces_before(part)..self.ends[part]
    }

    fn pieces_before(&self, part: usize) -> u64 {
        part.checked_sub(1).map_or(0, |before| self.ends[before])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer(folder: &Path) -> Tokenizer {
        let pieces = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\naspirin\nrisk\n##s\nof\nbleeding\n.\n";
        std::fs::write(folder.join("vocab.txt"), pieces).unwrap();
        std::fs::write(folder.join("tokenizer_config.json"), r#"{"do_lower_case": true}"#).unwrap();
        Tokenizer::open(folder, None).unwrap()
    }

    const TEXTS: [&str; 5] =
        ["Aspirin risks.", "", "risks of bleeding risks of bleeding risks", "of", "Risk. Bleeding risks."];

    #[test]
    fn what_is_read_is_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = tokenizer(folder.path());
        let expected = TEXTS.map(|text| tokenizer.parts(text, 8).unwrap());
        let mut digests = Vec::new();
        for at_once in [1, 2, 5] {
            let mut spool = Spool::new(&folder.path().join("new"), &tokenizer, 8).unwrap();
            for texts in TEXTS.chunks(at_once) {
                spool.extend(&tokenizer, texts).unwrap();
                // Reading in between leaves the rest to be appended.
                spool.read(0).unwrap();
            }
            let all: Vec<Features> = expected.concat();
            assert!(expected[2].len() > 1);
            for (number, part) in all.iter().enumerate() {
                assert_eq!(&spool.read(number).unwrap(), part);
                assert_eq!(spool.pieces(number), part.ids.len());
            }
            assert_eq!(spool.len(), TEXTS.len());
            let [trained, held_out] = spool.divide(&[1, 2]);
            assert_eq!(held_out, (1..1 + expected[2].len()).collect::<Vec<_>>());
            assert_eq!(trained.len() + held_out.len(), all.len());
            digests.push(spool.digest());
        }
        assert_eq!(digests[0], digests[1]);
        assert_eq!(digests[0], digests[2]);
        // Neither the limits of the texts nor their order are lost.
        for other in [vec!["of", "aspirin"], vec!["of", "", "aspirin"], vec!["aspirin", "of"]] {
            let mut spool = Spool::new(folder.path(), &tokenizer, 8).unwrap();
            spool.extend(&tokenizer, &other).unwrap();
            assert!(!digests.contains(&spool.digest()));
            digests.push(spool.digest());
        }
        // Nothing is left in the directory.
        assert_eq!(std::fs::read_dir(folder.path().join("new")).unwrap().count(), 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = tokenizer(folder.path());
        let full = File::options().read(true).write(true).open("/dev/full").unwrap();
        let mut spool = Spool::of(full, folder.path(), &tokenizer, 8);
        match spool.extend(&tokenizer, &TEXTS) {
            Err(Error::Io { path, source }) => {
                assert_eq!((path.as_path(), source.kind()), (folder.path(), io::ErrorKind::StorageFull));
            }
            other => panic!("{other:?}"),
        }
    }
}
