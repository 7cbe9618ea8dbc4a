//! Which of DrugProt's tables a file is, by its name, and which files belong together.

use std::path::{Path, PathBuf};

/// How the name of the table of abstracts has its kind; the release has the first spelling.
const ABSTRACTS: [&str; 2] = ["abstracs", "abstracts"];

/// The kind of table that a file's name states: `abstracts`, `entities` or `relations`.
pub(super) fn kind(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_string_lossy().to_lowercase();
    match () {
        () if ABSTRACTS.iter().any(|word| name.contains(word)) => Some("abstracts"),
        () if name.contains("entities") => Some("entities"),
        () if name.contains("relations") => Some("relations"),
        () => None,
    }
}

/// The table of another kind (`entities`, `relations`) that belongs to a table of abstracts, if
/// there is one.
pub(super) fn table_of(abstracts: &Path, kind: &str) -> Option<PathBuf> {
    let name = abstracts.file_name()?.to_string_lossy().into_owned();
    let lower = name.to_ascii_lowercase();
    let (at, word) = ABSTRACTS.iter().find_map(|word| Some((lower.rfind(word)?, word)))?;
    let name = format!("{}{kind}{}", name.get(..at)?, name.get(at + word.len()..)?);
    let plain = abstracts.with_file_name(&name);
    let other = match name.strip_suffix(".gz") {
        Some(stem) => abstracts.with_file_name(stem),
        None => abstracts.with_file_name(format!("{name}.gz")),
    };
    [plain, other].into_iter().find(|path| path.is_file())
}

/// Whether a table of entities or relations belongs to a table of abstracts beside it.
pub(super) fn belongs_to_abstracts(path: &Path) -> bool {
    let Some(kind) = kind(path).filter(|kind| *kind != "abstracts") else { return false };
    let Some(name) = path.file_name().map(|name| name.to_string_lossy().into_owned()) else { return false };
    let Some(at) = name.to_ascii_lowercase().rfind(kind) else { return false };
    let (Some(before), Some(after)) = (name.get(..at), name.get(at + kind.len()..)) else { return false };
    let stem = after.strip_suffix(".gz").unwrap_or(after);
    ABSTRACTS.iter().any(|word| {
        ["", ".gz"].iter().any(|packed| path.with_file_name(format!("{before}{word}{stem}{packed}")).is_file())
    })
}
