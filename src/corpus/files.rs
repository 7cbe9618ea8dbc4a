//! Where corpus files come from: a file, a folder, or a zip archive that is read in place.
//!
//! Archives come from the internet, so they are not trusted: declared sizes are limited before
//! anything is unpacked, and no entry may unpack to more than it declares. Nothing is written to
//! disk.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zip::ZipArchive;

use crate::{Error, Result};

/// Largest single entry of an archive, unpacked. The largest file of any corpus read here is under
/// 2 MiB.
const ENTRY_LIMIT: u64 = 64 << 20;
/// Largest sum of the entries of an archive, unpacked.
const ARCHIVE_LIMIT: u64 = 512 << 20;
/// Largest number of entries of an archive or files of a folder.
const COUNT_LIMIT: usize = 100_000;
/// Deepest nesting of folders; a loop of symbolic links ends here.
const DEPTH_LIMIT: usize = 16;

/// Text files under one path, by their name relative to it (`/` between folders), sorted.
pub(super) struct Tree {
    root: PathBuf,
    /// Names, sorted; without hidden files and what macOS adds to archives.
    names: Vec<String>,
    source: Source,
}

enum Source {
    File,
    Folder,
    Zip { archive: ZipArchive<Cursor<Arc<[u8]>>>, entries: BTreeMap<String, usize> },
}

impl Tree {
    /// Open a file, a folder or a zip archive, and list its files.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let metadata = fs::metadata(path).map_err(Error::io(path))?;
        if metadata.is_dir() {
            let mut names = Vec::new();
            list(path, "", 0, &mut names)?;
            names.sort_unstable();
            return Ok(Self { root: path.to_owned(), names, source: Source::Folder });
        }
        if !metadata.is_file() {
            return Err(Error::corpus(path, "is neither a file nor a folder"));
        }
        let is_zip = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("zip"));
        if is_zip {
            return Self::open_zip(path, metadata.len());
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { root: path.to_owned(), names: vec![name], source: Source::File })
    }

    fn open_zip(path: &Path, size: u64) -> Result<Self> {
        if size > ARCHIVE_LIMIT {
            return Err(Error::corpus(path, format!("{size} bytes is too large for a corpus archive")));
        }
        let bytes: Arc<[u8]> = fs::read(path).map_err(Error::io(path))?.into();
        let corrupt = |error: zip::result::ZipError| {
            Error::corpus(path, format!("not a complete zip archive ({error}); download it again"))
        };
        let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(corrupt)?;
        if archive.len() > COUNT_LIMIT {
            return Err(Error::corpus(path, format!("{} entries are too many for a corpus", archive.len())));
        }
        let (mut entries, mut total) = (BTreeMap::new(), 0_u64);
        for number in 0..archive.len() {
            let entry = archive.by_index_raw(number).map_err(corrupt)?;
            let name = entry.name().map_err(corrupt)?.into_owned();
            if !entry.is_file() || is_hidden(&name) {
                continue;
            }
            total = total.saturating_add(entry.size());
            if entry.size() > ENTRY_LIMIT || total > ARCHIVE_LIMIT {
                let size = entry.size();
                let message = format!("entry {name} unpacks to {size} bytes: too large for a corpus, refused");
                return Err(Error::corpus(path, message));
            }
            if entries.insert(name.clone(), number).is_some() {
                return Err(Error::corpus(path, format!("entry {name} appears twice")));
            }
        }
        let names = entries.keys().cloned().collect();
        Ok(Self { root: path.to_owned(), names, source: Source::Zip { archive, entries } })
    }

    /// The names of all files.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// The path of a file, as messages show it.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        match self.source {
            Source::File => self.root.clone(),
            Source::Folder | Source::Zip { .. } => self.root.join(name),
        }
    }

    /// The names of the folders above a file, from the outermost: those below the root and, for a
    /// folder, its own name; for a single file the two nearest. Folders further up are the user's
    /// own and say nothing about the corpus.
    pub(super) fn folders(&self, name: &str) -> Vec<String> {
        let own = |path: &Path| path.file_name().map(|own| own.to_string_lossy().into_owned());
        let above: Vec<String> = match self.source {
            Source::File => self.root.ancestors().skip(1).take(2).filter_map(own).collect(),
            Source::Folder => own(&self.root).into_iter().collect(),
            Source::Zip { .. } => Vec::new(),
        };
        let below = name.rsplit('/').skip(1).map(str::to_owned);
        let mut folders: Vec<String> = below.chain(above).collect();
        folders.reverse();
        folders
    }

    /// The text of one file.
    pub(super) fn read(&self, name: &str) -> Result<String> {
        let path = self.path_of(name);
        match &self.source {
            Source::File | Source::Folder => read_text(&path),
            Source::Zip { archive, entries } => {
                // The clone shares the bytes and the directory; only its reading position is its own.
                let mut archive = archive.clone();
                let corrupt = |reason: String| {
                    Error::corpus(&path, format!("corrupt in the archive ({reason}); download it again"))
                };
                let number = entries.get(name).copied().ok_or_else(|| corrupt("no such entry".to_owned()))?;
                let mut entry = archive.by_index(number).map_err(|error| corrupt(error.to_string()))?;
                let declared = entry.size();
                let mut bytes = Vec::with_capacity(declared.min(ENTRY_LIMIT) as usize);
                entry
                    .by_ref()
                    .take(declared + 1)
                    .read_to_end(&mut bytes)
                    .map_err(|error| corrupt(error.to_string()))?;
                if bytes.len() as u64 != declared {
                    return Err(corrupt(format!("it does not unpack to the {declared} bytes that it declares")));
                }
                decode(&path, bytes)
            }
        }
    }
}

/// The text of a file: UTF-8, without a byte order mark.
pub(super) fn read_text(path: &Path) -> Result<String> {
    decode(path, fs::read(path).map_err(Error::io(path))?)
}

fn decode(path: &Path, bytes: Vec<u8>) -> Result<String> {
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + valid.iter().filter(|&&byte| byte == b'\n').count();
        Error::corpus_line(path, line, "is not UTF-8; convert the file to UTF-8 first")
    })?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(text)
}

/// Hidden files and the `__MACOSX` folder are not part of a corpus.
fn is_hidden(name: &str) -> bool {
    name.split('/').any(|part| part.starts_with('.') || part == "__MACOSX")
}

fn list(folder: &Path, prefix: &str, depth: usize, names: &mut Vec<String>) -> Result<()> {
    if depth > DEPTH_LIMIT {
        return Err(Error::corpus(folder, format!("folders are nested more than {DEPTH_LIMIT} deep")));
    }
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        let name = entry
            .file_name()
            .into_string()
            .map_err(|name| Error::corpus(folder.join(name), "the file's name is not Unicode; rename it"))?;
        let relative = format!("{prefix}{name}");
        if is_hidden(&name) {
            continue;
        }
        let path = entry.path();
        let metadata = fs::metadata(&path).map_err(Error::io(&path))?;
        if metadata.is_dir() {
            list(&path, &format!("{relative}/"), depth + 1, names)?;
        } else if metadata.is_file() {
            names.push(relative);
        }
        if names.len() > COUNT_LIMIT {
            return Err(Error::corpus(folder, format!("more than {COUNT_LIMIT} files: is this the corpus's folder?")));
        }
    }
    Ok(())
}

/// Whether a file's name ends in an extension, whatever its case.
pub(super) fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|actual| actual.eq_ignore_ascii_case(extension))
}

/// The lines of a text with their numbers from 1, without `\r` and without empty lines.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let without_return = |line: &'_ str| -> usize { line.strip_suffix('\r').unwrap_or(line).len() };
    text.split('\n')
        .enumerate()
        .map(move |(number, line)| (number + 1, &line[..without_return(line)]))
        .filter(|(_, line)| !line.trim().is_empty())
}
