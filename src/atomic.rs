//! Atomic writes: a file or a folder appears complete or not at all, also in the place of an
//! earlier one, whenever the process is killed.
//!
//! ```text
//! .NAME.partial/      holds a file while it is written; left by a kill, it is of no use
//! .NAME.partial-PID   a folder while it is filled; after the exchange, what was at NAME before
//! .NAME.old-PID       what was at NAME before, where the system cannot exchange two folders
//! ```

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::{Error, Result};

/// Folders beside the target that are older than this were left by a killed process: saving takes
/// seconds.
const LEFT_BEHIND: Duration = Duration::from_secs(3600);

/// Write a file beside `path` and rename it. A process that is killed leaves the earlier file or
/// the new one.
///
/// # Errors
/// Those of `write`, which receives the path to write to; [`Error::Io`]. The earlier file is there
/// then.
pub fn write_file(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    // In a folder of its own: whatever `write` leaves half-written, temporary files included, is
    // known by the folder's name.
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

/// Remove what a killed [`write_file`] of this path left half-written.
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

/// Fill a folder beside `directory` and put it there. A process that is killed leaves the earlier
/// folder or the new one.
///
/// Linux and macOS exchange the two in one step on most file systems. Elsewhere there are two
/// renames; what a kill between them leaves is found by [`find`].
///
/// # Errors
/// Those of `fill`; [`Error::Config`] when `directory` has no name; [`Error::Io`]. The earlier
/// folder is there then.
pub fn write_directory(directory: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let Some((parent, name)) = place(directory) else {
        return Err(Error::config("directory", format!("{} has no name", directory.display())));
    };
    fs::create_dir_all(parent).map_err(Error::io(parent))?;
    let ours = |what| {
        let mut own = hidden(name, what);
        own.push(std::process::id().to_string());
        parent.join(own)
    };
    let (partial, old) = (ours("partial"), ours("old"));
    let result = fs::create_dir_all(&partial)
        .map_err(Error::io(&partial))
        .and_then(|()| fill(&partial))
        .and_then(|()| sync(&partial))
        .and_then(|()| put(&partial, directory, &old));
    // A failure to remove the rest must not hide the result.
    let _ = fs::remove_dir_all(&partial);
    if result.is_ok() {
        sync_names(parent);
        let _ = fs::remove_dir_all(&old);
        for (path, modified) in ["partial", "old"].into_iter().flat_map(|what| beside(parent, name, what)) {
            if modified.elapsed().is_ok_and(|age| age > LEFT_BEHIND) {
                let _ = fs::remove_dir_all(path);
            }
        }
    }
    result
}

/// Where the folder is: `directory`, or, if nothing is there, what a killed process had moved aside
/// for a new one.
pub fn find(directory: &Path) -> PathBuf {
    // A link that leads nowhere is something, too.
    let moved = if fs::symlink_metadata(directory).is_ok() { None } else { place(directory) };
    let moved = moved.and_then(|(parent, name)| beside(parent, name, "old").max_by_key(|(_, modified)| *modified));
    moved.map_or_else(|| directory.to_path_buf(), |(path, _)| path)
}

fn place(directory: &Path) -> Option<(&Path, &OsStr)> {
    let (parent, name) = (directory.parent()?, directory.file_name()?);
    Some((if parent.as_os_str().is_empty() { Path::new(".") } else { parent }, name))
}

/// How the names begin of what lies beside: `.NAME.WHAT-`.
fn hidden(name: &OsStr, what: &str) -> OsString {
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{what}-"));
    hidden
}

/// Folders beside that processes made, and when they were last changed.
fn beside(parent: &Path, name: &OsStr, what: &str) -> impl Iterator<Item = (PathBuf, SystemTime)> {
    let start = hidden(name, what);
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    entries.filter_map(move |entry| {
        let name = entry.file_name();
        let id = name.as_encoded_bytes().strip_prefix(start.as_encoded_bytes())?;
        let ours = !id.is_empty() && id.iter().all(u8::is_ascii_digit) && entry.path().is_dir();
        ours.then(|| Some((entry.path(), entry.metadata().ok()?.modified().ok()?)))?
    })
}

fn put(partial: &Path, directory: &Path, old: &Path) -> Result<()> {
    let failed = Error::io(directory);
    if fs::symlink_metadata(directory).is_err() {
        return fs::rename(partial, directory).map_err(failed);
    }
    if exchange(partial, directory) {
        return Ok(());
    }
    fs::rename(directory, old).map_err(Error::io(directory))?;
    fs::rename(partial, directory).map_err(|source| {
        // The earlier folder goes back. The caller needs the error of the second rename.
        let _ = fs::rename(old, directory);
        failed(source)
    })
}

/// Whether the two could be exchanged in one step. If not, two renames follow, which report any
/// error.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "macos", target_os = "ios"))]
fn exchange(one: &Path, other: &Path) -> bool {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).is_ok()
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "macos", target_os = "ios")))]
fn exchange(_: &Path, _: &Path) -> bool {
    false
}

/// Sync the files to disk before their folder gets its name, so that a crash of the machine leaves
/// no empty files.
fn sync(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        // Windows syncs only what is open for writing.
        let file = fs::OpenOptions::new().append(true).open(&path);
        file.and_then(|file| file.sync_all()).map_err(Error::io(&path))?;
    }
    sync_names(folder);
    Ok(())
}

/// Sync the names in a folder. Where folders cannot be synced, the system writes them when it does.
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
    fn what_was_moved_aside_is_found() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("model");
        assert_eq!(find(&directory), directory);
        for other in [".model.old-", ".model.old-x1", ".model.partial-7", ".model2.old-7"] {
            made(&place.path().join(other), "another's");
        }
        assert_eq!(find(&directory), directory);
        let aside = made(&place.path().join(".model.old-7"), "earlier");
        assert_eq!(find(&directory), aside);
        made(&directory, "new");
        assert_eq!(find(&directory), directory);
    }

    #[test]
    fn only_what_was_left_behind_long_ago_is_removed() {
        let place = tempfile::tempdir().unwrap();
        let [recent, ancient, user] =
            [".model.partial-7", ".model.old-8", ".model.old-mine"].map(|name| made(&place.path().join(name), ""));
        for folder in [&ancient, &user] {
            let then = SystemTime::now() - 2 * LEFT_BEHIND;
            fs::File::open(folder).unwrap().set_modified(then).unwrap();
        }
        let directory = place.path().join("model");
        write_directory(&directory, |partial| {
            made(partial, "new");
            Ok(())
        })
        .unwrap();
        assert_eq!(content(&directory), "new");
        assert!(recent.exists() && user.exists() && !ancient.exists());
    }

    #[test]
    fn a_failure_leaves_the_earlier_one() {
        let place = tempfile::tempdir().unwrap();
        let directory = made(&place.path().join("model"), "earlier");
        let refused = write_directory(&directory, |partial| {
            made(partial, "half");
            Err(Error::Interrupted)
        });
        assert!(matches!(refused, Err(Error::Interrupted)));
        assert_eq!(content(&directory), "earlier");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_is_the_earlier_one_or_the_new_one() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        let put = |text: &'static str| move |file: &Path| fs::write(file, text).map_err(Error::io(file));
        // A half-written file of a killed process is overwritten.
        made(&place.path().join(".file.partial"), "half");
        write_file(&path, put("first")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        let refused = write_file(&path, |file| put("half")(file).and(Err(Error::Interrupted)));
        assert!(matches!(refused, Err(Error::Interrupted)));
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        write_file(&path, put("second")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "second");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }
}
