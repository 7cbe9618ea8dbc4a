//! Atomic writes: a file or a folder is replaced completely or not at all, whenever the process is
//! killed.
//!
//! ```text
//! .NAME.partial/      contains a file while it is written; useless if a kill leaves it
//! .NAME.partial-PID   a folder while it is filled; after the exchange, what was at NAME before
//! .NAME.old-PID       what was at NAME before, where the system cannot exchange two folders
//! ```

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::{Error, Result};

/// What biorel writes into the folders of models, encoders and ensembles, and what file managers add.
const OWN: [&str; 11] = [
    "README.md",
    "biorel.json",
    "config.json",
    "ensemble.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    ".DS_Store",
    "Thumbs.db",
    "desktop.ini",
];

/// Temporary folders older than this were left by a killed process: saving takes seconds.
const LEFT_BEHIND: Duration = Duration::from_secs(3600);

/// Write a file next to `path` and rename it. A process that is killed leaves the earlier file or
/// the new one.
///
/// # Errors
/// Those of `write`, which receives the path to write to; [`Error::Io`]. The earlier file then
/// remains.
pub fn write_file(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    // In its own folder: whatever `write` leaves incomplete, temporary files included, can be found by
    // the folder's name.
    let folder = partial_folder(path);
    let file = folder.join("file");
    let result = fs::create_dir_all(&folder)
        .map_err(Error::io(&folder))
        .and_then(|()| write(&file))
        .and_then(|()| sync(&folder))
        .and_then(|()| fs::rename(&file, path).map_err(Error::io(path)));
    if let (Ok(()), Some(parent)) = (&result, folder.parent()) {
        sync_names(parent);
    }
    discard_partial(path);
    result
}

/// Remove what a killed [`write_file`] of this path left incomplete.
pub fn discard_partial(path: &Path) {
    // There is rarely anything, and nothing depends on its removal.
    let _ = fs::remove_dir_all(partial_folder(path));
}

fn partial_folder(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".partial");
    path.with_file_name(name)
}

/// Check that a folder has nothing but what biorel writes into one, as it is replaced as a whole.
///
/// # Errors
/// [`Error::Config`] with the name of what would be lost.
pub fn check_replaceable(directory: &Path) -> Result<()> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let own = |name: &str| {
        let member = name.strip_prefix("model-").is_some_and(|number| number.parse::<u32>().is_ok());
        member || OWN.contains(&name)
    };
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    match names.filter(|name| !own(name)).min() {
        None => Ok(()),
        Some(name) => {
            let message = format!(
                "{} has `{name}`, which biorel did not write and which would be lost; move it, or choose another name",
                directory.display()
            );
            Err(Error::config("directory", message))
        }
    }
}

/// Fill a folder next to `directory` and move it there. A link is followed. A process that is killed leaves the earlier
/// folder or the new one.
///
/// Linux and macOS exchange the two in one step on most file systems. Elsewhere there are two
/// renames; what a kill between them leaves is found by [`find`].
///
/// # Errors
/// Those of `fill`; [`Error::Config`] if `directory` has no name; [`Error::Io`]. The earlier
/// folder then remains.
pub fn write_directory(directory: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let target = fs::canonicalize(directory).ok().filter(|_| directory.is_symlink());
    let directory = target.as_deref().unwrap_or(directory);
    let Some((parent, name)) = parent_and_name(directory) else {
        return Err(Error::config("directory", format!("{} has no name", directory.display())));
    };
    fs::create_dir_all(parent).map_err(Error::io(parent))?;
    let temporary = |what| {
        let mut own = prefix(name, what);
        own.push(std::process::id().to_string());
        parent.join(own)
    };
    let (partial, old) = (temporary("partial"), temporary("old"));
    let result = fs::create_dir_all(&partial)
        .map_err(Error::io(&partial))
        .and_then(|()| fill(&partial))
        .and_then(|()| sync(&partial))
        .and_then(|()| move_into_place(&partial, directory, &old));
    // A failure to remove leftovers must not hide the result.
    let _ = fs::remove_dir_all(&partial);
    if result.is_ok() {
        sync_names(parent);
        let _ = fs::remove_dir_all(&old);
        for (path, modified) in ["partial", "old"].into_iter().flat_map(|what| leftovers(parent, name, what)) {
            if modified.elapsed().is_ok_and(|age| age > LEFT_BEHIND) {
                let _ = fs::remove_dir_all(path);
            }
        }
    }
    result
}

/// The folder to read: `directory`, or, if it does not exist, the earlier one that a killed process
/// had moved aside.
pub fn find(directory: &Path) -> PathBuf {
    // A dangling link counts as existing.
    let moved = if fs::symlink_metadata(directory).is_ok() { None } else { parent_and_name(directory) };
    let moved = moved.and_then(|(parent, name)| leftovers(parent, name, "old").max_by_key(|(_, modified)| *modified));
    moved.map_or_else(|| directory.to_path_buf(), |(path, _)| path)
}

fn parent_and_name(directory: &Path) -> Option<(&Path, &OsStr)> {
    let (parent, name) = (directory.parent()?, directory.file_name()?);
    Some((if parent.as_os_str().is_empty() { Path::new(".") } else { parent }, name))
}

/// The prefix of a temporary folder's name: `.NAME.WHAT-`.
fn prefix(name: &OsStr, what: &str) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(format!(".{what}-"));
    prefix
}

/// The temporary folders of this name, of all processes, and when they were last changed.
fn leftovers(parent: &Path, name: &OsStr, what: &str) -> impl Iterator<Item = (PathBuf, SystemTime)> {
    let start = prefix(name, what);
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    entries.filter_map(move |entry| {
        let name = entry.file_name();
        let id = name.as_encoded_bytes().strip_prefix(start.as_encoded_bytes())?;
        let ours = !id.is_empty() && id.iter().all(u8::is_ascii_digit) && entry.path().is_dir();
        ours.then(|| Some((entry.path(), entry.metadata().ok()?.modified().ok()?)))?
    })
}

fn move_into_place(partial: &Path, directory: &Path, old: &Path) -> Result<()> {
    let failed = Error::io(directory);
    if fs::symlink_metadata(directory).is_err() {
        return fs::rename(partial, directory).map_err(failed);
    }
    if exchange(partial, directory) {
        return Ok(());
    }
    fs::rename(directory, old).map_err(Error::io(directory))?;
    fs::rename(partial, directory).map_err(|source| {
        // Restore the earlier folder. The caller needs the error of the second rename.
        let _ = fs::rename(old, directory);
        failed(source)
    })
}

/// Exchange the two in one step, if that is possible. If not, the caller renames both and reports
/// any error.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "macos", target_os = "ios"))]
fn exchange(one: &Path, other: &Path) -> bool {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).is_ok()
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "macos", target_os = "ios")))]
fn exchange(_: &Path, _: &Path) -> bool {
    false
}

/// Sync the files to disk before their folder is renamed, so that a crash of the machine leaves no
/// empty files.
fn sync(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        if path.is_dir() {
            sync(&path)?;
            continue;
        }
        // Windows syncs only what is open for writing.
        let file = fs::OpenOptions::new().append(true).open(&path);
        file.and_then(|file| file.sync_all()).map_err(Error::io(&path))?;
    }
    sync_names(folder);
    Ok(())
}

/// Sync the names in a folder, on systems where folders can be synced.
fn sync_names(folder: &Path) {
    if cfg!(unix) {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let _ = fs::File::open(folder).and_then(|folder| folder.sync_all());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(folder: &Path, content: &str) -> PathBuf {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("file"), content).unwrap();
        folder.to_path_buf()
    }

    fn content(folder: &Path) -> String {
        fs::read_to_string(folder.join("file")).unwrap()
    }

    #[test]
    fn a_folder_that_was_moved_aside_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("model");
        assert_eq!(find(&directory), directory);
        for other in [".model.old-", ".model.old-x1", ".model.partial-7", ".model2.old-7"] {
            made(&folder.path().join(other), "another's");
        }
        assert_eq!(find(&directory), directory);
        let aside = made(&folder.path().join(".model.old-7"), "earlier");
        assert_eq!(find(&directory), aside);
        made(&directory, "new");
        assert_eq!(find(&directory), directory);
    }

    #[test]
    fn only_old_leftovers_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let [recent, ancient, user] =
            [".model.partial-7", ".model.old-8", ".model.old-mine"].map(|name| made(&folder.path().join(name), ""));
        for path in [&ancient, &user] {
            let then = SystemTime::now() - 2 * LEFT_BEHIND;
            fs::File::open(path).unwrap().set_modified(then).unwrap();
        }
        let directory = folder.path().join("model");
        write_directory(&directory, |partial| {
            made(partial, "new");
            Ok(())
        })
        .unwrap();
        assert_eq!(content(&directory), "new");
        assert!(recent.exists() && user.exists() && !ancient.exists());
    }

    #[test]
    fn a_failure_leaves_the_earlier_folder() {
        let folder = tempfile::tempdir().unwrap();
        let directory = made(&folder.path().join("model"), "earlier");
        let refused = write_directory(&directory, |partial| {
            made(partial, "half");
            Err(Error::Interrupted)
        });
        assert!(matches!(refused, Err(Error::Interrupted)));
        assert_eq!(content(&directory), "earlier");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_is_either_the_earlier_or_the_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let write = |text: &'static str| move |file: &Path| fs::write(file, text).map_err(Error::io(file));
        // A half-written file of a killed process is overwritten.
        made(&folder.path().join(".file.partial"), "half");
        write_file(&path, write("first")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        let refused = write_file(&path, |file| write("half")(file).and(Err(Error::Interrupted)));
        assert!(matches!(refused, Err(Error::Interrupted)));
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        write_file(&path, write("second")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "second");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
