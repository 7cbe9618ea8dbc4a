//! The order of the folders of `src`: imports between them only go down (CONTRIBUTING.md draws them).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// From the bottom up; what stands in one row does not know each other.
const ORDER: &[&[&str]] = &[
    &["error"],
    &["rng", "config", "atomic", "digest"],
    &["ops", "corpus"],
    &["text"],
    &["encode"],
    &["model"],
    &["eval", "predict"],
    &["train", "attention"],
    &["py"],
    &["lib"],
];

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The folder, or the file, directly below `src`.
fn top(path: &Path, src: &Path) -> String {
    let first = path.strip_prefix(src).unwrap().components().next().unwrap();
    let name = first.as_os_str().to_str().unwrap();
    name.strip_suffix(".rs").unwrap_or(name).to_owned()
}

/// What follows `crate::` outside of comments: the first names of paths, `use` declarations with braces included.
fn imports(source: &str) -> BTreeSet<String> {
    let code: String = source.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n");
    let mut found = BTreeSet::new();
    for (at, matched) in code.match_indices("crate::") {
        let rest = &code[at + matched.len()..];
        match rest.strip_prefix('{') {
            Some(inner) => found.extend(names_at_top(inner)),
            None => found.extend(first_name(rest)),
        }
    }
    found
}

/// The first name of each entry of a brace, up to the end of the brace.
fn names_at_top(inner: &str) -> Vec<String> {
    let mut depth = 0;
    let mut found = Vec::new();
    let mut entry = String::new();
    for letter in inner.chars() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => found.extend(first_name(&std::mem::take(&mut entry))),
            _ => {}
        }
        if letter != ',' && depth == 0 {
            entry.push(letter);
        }
    }
    found.extend(first_name(&entry));
    found
}

/// `Error` and `Result` stand at the top of the crate and are `error`'s.
fn first_name(path: &str) -> Option<String> {
    let name: String =
        path.trim_start().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
    match name.as_str() {
        "" => None,
        "Error" | "Result" => Some("error".to_owned()),
        _ => Some(name),
    }
}

fn level(name: &str) -> Option<usize> {
    ORDER.iter().position(|row| row.contains(&name))
}

/// Whether `from` may import `to`.
fn goes_down(from: &str, to: &str) -> bool {
    from == to || matches!((level(from), level(to)), (Some(from), Some(to)) if to < from)
}

#[test]
fn imports_between_folders_go_down() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for file in files(&src) {
        let from = top(&file, &src);
        let source = fs::read_to_string(&file).unwrap();
        for to in imports(&source) {
            if !goes_down(&from, &to) {
                wrong.push(format!("{} imports {to}", file.display()));
            }
        }
        seen.insert(from);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let listed: BTreeSet<_> = ORDER.iter().flat_map(|row| row.iter().map(|name| (*name).to_owned())).collect();
    assert_eq!(listed, seen, "ORDER lists what is in src");
}

#[test]
fn every_form_of_import_is_seen() {
    let source = "use crate::{Error, Result};\nuse crate::ops::{Ops, cpu};\nuse crate::{\n    model::{Params, head},\n    \
                  rng,\n};\n// crate::py is only mentioned\nfn f() { crate::train::fit() }\n";
    let found: Vec<_> = imports(source).into_iter().collect();
    assert_eq!(found, ["error", "model", "ops", "rng", "train"]);
    assert!(!goes_down("corpus", "train") && !goes_down("train", "attention") && goes_down("train", "corpus"));
}
