//! The imports of `src`: between folders they only go down (CONTRIBUTING.md draws them), and
//! between files there is no circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// From the bottom up; the folders of one row do not import each other.
const ORDER: &[&[&str]] = &[
    &["error"],
    &["rng", "config", "atomic", "digest", "named"],
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

/// The first name after each `crate::` outside of comments, with those in the braces of `use`
/// declarations.
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

/// `Error` and `Result` are re-exported at the top of the crate; they are defined in `error`.
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
fn every_form_of_import_is_found() {
    let source = "use crate::{Error, Result};\nuse crate::ops::{Ops, cpu};\nuse crate::{\n    model::{Params, head},\n    \
                  rng,\n};\n// crate::py is only mentioned\nfn f() { crate::train::fit() }\n";
    let found: Vec<_> = imports(source).into_iter().collect();
    assert_eq!(found, ["error", "model", "ops", "rng", "train"]);
    assert!(!goes_down("corpus", "train") && !goes_down("train", "attention") && goes_down("train", "corpus"));
}

/// The names of a path from the top of the crate: a module, or an item of one.
type Names = Vec<String>;

/// The module of a file: `src/ops/cpu/mod.rs` is `ops::cpu`.
fn module(path: &Path, src: &Path) -> Names {
    let below = path.strip_prefix(src).unwrap().with_extension("");
    let names: Names = below.iter().map(|name| name.to_str().unwrap().to_owned()).collect();
    match names.split_last() {
        Some((last, folder)) if last == "mod" || last == "lib" => folder.to_vec(),
        _ => names,
    }
}

/// The code of a file without comments and unit tests.
fn code(source: &str) -> String {
    let lines: Vec<&str> = source.lines().map(|line| line.split("//").next().unwrap()).collect();
    let code = lines.join("\n");
    code.split("#[cfg(test)]\nmod tests").next().unwrap().to_owned()
}

/// `a::{b, c::{d, e as f}}` as `a::b`, `a::c::d`, `a::c::e`.
fn expand(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else {
        return vec![path.split(" as ").next().unwrap().split_whitespace().collect()];
    };
    let (inner, before) = (rest.rsplit_once('}').map_or(rest, |(inner, _)| inner), before.trim());
    let (mut depth, mut entries) = (0, vec![String::new()]);
    for letter in inner.chars() {
        match letter {
            ',' if depth == 0 => entries.push(String::new()),
            _ => {
                depth += i32::from(letter == '{') - i32::from(letter == '}');
                entries.last_mut().unwrap().push(letter);
            }
        }
    }
    let paths = entries.iter().filter(|entry| !entry.trim().is_empty());
    paths.flat_map(|entry| expand(&format!("{before}{}", entry.trim()))).collect()
}

/// The paths that a file uses, and whether each is re-exported (`pub use`): those of `use`
/// declarations, and those in expressions.
fn paths(code: &str) -> Vec<(bool, String)> {
    let mut found = Vec::new();
    let mut others = String::new();
    for statement in code.split_inclusive(';') {
        let start = statement.match_indices("use ").find(|(at, _)| {
            let line = statement[..*at].rsplit('\n').next().unwrap().trim();
            line.is_empty() || line == "pub" || (line.starts_with("pub(") && line.ends_with(')'))
        });
        match start {
            Some((at, matched)) => {
                let reexported =
                    statement[..at].trim_end().rsplit('\n').next().unwrap().trim_start().starts_with("pub");
                let path = statement[at + matched.len()..].trim_end_matches(';');
                found.extend(expand(path).into_iter().map(|path| (reexported, path)));
                others.push_str(&statement[..at]);
            }
            None => others.push_str(statement),
        }
    }
    let part_of_path = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
    let inline = others.split(|letter: char| !part_of_path(letter));
    let mut before = "";
    for path in inline.filter(|path| !path.is_empty()) {
        // `pub(in crate::corpus)` says who may see an item, and imports nothing.
        if path.contains("::") && before != "in" {
            found.push((false, path.to_owned()));
        }
        before = path;
    }
    found
}

/// The imports between the files of a crate, by module; a re-exported name counts for the module
/// that defines it.
fn graph(sources: &BTreeMap<Names, String>) -> BTreeMap<Names, BTreeSet<Names>> {
    let absolute = |module: &Names, path: &str| -> Option<Names> {
        let mut names: Vec<&str> = path.split("::").filter(|name| !name.is_empty()).collect();
        let mut base = module.clone();
        match names.first().copied() {
            Some("crate") => base.clear(),
            Some("super") => {
                while names.get(1) == Some(&"super") {
                    names.remove(0);
                    base.pop();
                }
                base.pop();
            }
            Some("self") => {}
            Some(child) => {
                base.push(child.to_owned());
                sources.contains_key(&base).then_some(())?;
            }
            None => return None,
        }
        base.extend(names[1..].iter().map(|name| (*name).to_owned()));
        Some(base)
    };
    let mut uses: BTreeMap<&Names, Vec<(bool, Names)>> = BTreeMap::new();
    let mut origins: BTreeMap<(Names, String), Names> = BTreeMap::new();
    for (module, source) in sources {
        for (reexported, path) in paths(&code(source)) {
            let Some(names) = absolute(module, &path) else { continue };
            if let (true, Some(name)) = (reexported, names.last()) {
                origins.insert((module.clone(), name.clone()), names.clone());
            }
            uses.entry(module).or_default().push((reexported, names));
        }
    }
    let defined_in = |names: &Names| -> Names {
        let mut names = names.clone();
        for _ in 0..8 {
            let known = (0..=names.len()).rev().find(|length| sources.contains_key(&names[..*length])).unwrap_or(0);
            let origin = names.get(known).and_then(|name| origins.get(&(names[..known].to_vec(), name.clone())));
            match origin.filter(|origin| **origin != names) {
                Some(origin) => names.clone_from(origin),
                None => return names[..known].to_vec(),
            }
        }
        names
    };
    let imports = |module: &Names| {
        let own = uses.get(module).into_iter().flatten().filter(|(reexported, _)| !reexported);
        own.map(|(_, names)| defined_in(names)).filter(|other| other != module).collect()
    };
    sources.keys().map(|module| (module.clone(), imports(module))).collect()
}

/// The modules of circles, if there are any: what remains after repeatedly removing the modules
/// that import nothing and those that nothing imports.
fn circle(mut graph: BTreeMap<Names, BTreeSet<Names>>) -> Vec<String> {
    loop {
        let imported: BTreeSet<Names> = graph.values().flatten().cloned().collect();
        let known: BTreeSet<Names> = graph.keys().cloned().collect();
        let before = graph.len();
        graph.retain(|module, imports| imports.iter().any(|other| known.contains(other)) && imported.contains(module));
        if graph.len() == before {
            return graph.keys().map(|names| names.join("::")).collect();
        }
    }
}

#[test]
fn imports_between_files_have_no_circle() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let sources = files(&src).into_iter().map(|file| (module(&file, &src), fs::read_to_string(&file).unwrap()));
    assert_eq!(circle(graph(&sources.collect())), Vec::<String>::new());
}

#[test]
fn a_circle_between_files_is_found() {
    let modules = |files: &[(&str, &str)]| -> BTreeMap<Names, String> {
        let names = |name: &str| name.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect();
        files.iter().map(|(name, source)| (names(name), (*source).to_owned())).collect()
    };
    let good = [
        ("a", "mod b;\nmod c;\npub use b::{B, Other as O};\npub use self::c::C;"),
        ("a::b", "use std::fs;\npub struct B;"),
        ("a::c", "// use super::d::D;\nuse super::{\n    B,\n};\nfn f() -> crate::a::b::B { B }"),
    ];
    assert_eq!(circle(graph(&modules(&good))), Vec::<String>::new());
    let mut bad = good;
    bad[1].1 = "use super::C;";
    assert_eq!(circle(graph(&modules(&bad))), ["a::b", "a::c"]);
    bad[1].1 = "fn f() { super::c::g() }";
    assert_eq!(circle(graph(&modules(&bad))), ["a::b", "a::c"]);
    let parent = [("a", "mod b;\npub struct A;\nfn f() { b::g(A) }"), ("a::b", "use super::A;\npub fn g(_: A) {}")];
    assert_eq!(circle(graph(&modules(&parent))), ["a", "a::b"]);
    let visible = [parent[0], ("a::b", "pub(in crate::a) fn g() {}")];
    assert_eq!(circle(graph(&modules(&visible))), Vec::<String>::new());
}
