//! Unreadable input is refused, with the file, the line and the reason.

use std::io::Write;
use std::path::Path;

use biorel::corpus::{Corpus, CorpusKind, ReadOptions};
use biorel::encode::{Marking, instances};
use proptest::prelude::*;

use super::{data, read};

/// Read one file with this content; the error's message without the folder.
fn refuse(kind: CorpusKind, name: &str, content: impl AsRef<[u8]>) -> String {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(name), content).unwrap();
    message(read(kind, folder.path().join(name)), folder.path())
}

fn message(result: biorel::Result<Corpus>, folder: &Path) -> String {
    let error = result.expect_err("must be refused").to_string();
    error.replace(&format!("{}/", folder.display()), "").replace(&folder.display().to_string(), "FOLDER")
}

/// A valid unified file with one change.
fn unified(from: &str, to: &str) -> String {
    let good = std::fs::read_to_string(data("ppi/pairs_exclusive.xml")).unwrap();
    assert!(good.contains(from), "{from}");
    refuse(CorpusKind::Aimed, "a.xml", good.replacen(from, to, 1))
}

fn ddi(from: &str, to: &str) -> String {
    let good = std::fs::read_to_string(data("ddi/Train/DrugBank/Handmadol_ddi.xml")).unwrap();
    assert!(good.contains(from), "{from}");
    refuse(CorpusKind::Ddi, "a.xml", good.replacen(from, to, 1))
}

fn pairs(from: &str, to: &str) -> String {
    let good = std::fs::read_to_string(data("ppi/pairs.tsv")).unwrap();
    assert!(good.contains(from), "{from}");
    refuse(CorpusKind::Aimed, "a.tsv", good.replacen(from, to, 1))
}

/// The hand-written ChemProt corpus with one table changed.
fn chemprot(table: &str, change: impl Fn(String) -> String) -> String {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(data("chemprot/training")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let mut text = std::fs::read_to_string(&path).unwrap();
        if name.contains(table) {
            text = change(text);
        }
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    message(read(CorpusKind::Chemprot, folder.path()), folder.path())
}

fn contains(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

#[test]
fn missing_files_and_files_that_are_not_text() {
    for kind in CorpusKind::ALL {
        let error = read(kind, "/nowhere/corpus.xml").unwrap_err();
        assert!(
            matches!(&error, biorel::Error::Io { path, .. } if path == Path::new("/nowhere/corpus.xml")),
            "{error}"
        );
        let empty = tempfile::tempdir().unwrap();
        assert!(matches!(read(kind, empty.path()), Err(biorel::Error::Corpus { .. })));
        assert!(Corpus::read(kind, &[], &ReadOptions::default()).is_err());
    }
    let latin = b"<corpus>\n<document id=\"caf\xe9\"/></corpus>";
    contains(&refuse(CorpusKind::Aimed, "a.xml", latin), &["a.xml:2: is not UTF-8"]);
    contains(&read(CorpusKind::Aimed, "/dev/null").unwrap_err().to_string(), &["neither a file nor a folder"]);
}

#[test]
fn a_byte_order_mark_is_not_part_of_the_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tsv");
    let text = std::fs::read_to_string(data("ppi/pairs.tsv")).unwrap();
    std::fs::write(&path, format!("\u{feff}{text}")).unwrap();
    assert_eq!(read(CorpusKind::Aimed, path).unwrap().statistics()[0].pairs, 3);
}

#[test]
fn options_that_the_format_does_not_take() {
    let with = |kind, options: ReadOptions| Corpus::read(kind, &[data("ddi")], &options).unwrap_err().to_string();
    let splits = |name: &str| ReadOptions { splits: Some(name.into()), ..Default::default() };
    contains(&with(CorpusKind::Ddi, splits("half")), &["splits: `half`", "choose full or blue"]);
    contains(&with(CorpusKind::Chemprot, splits("blue")), &["splits", "it is for ddi"]);
    contains(&with(CorpusKind::Ddi, splits("blue")), &["needs the complete DDIExtraction 2013 corpus", "0 of its 942"]);
    let labels = ReadOptions { labels: Some(vec!["a".into(), "b".into()]), ..Default::default() };
    contains(
        &with(CorpusKind::Ddi, labels),
        &["labels: ddi does not take it", "it is for table, pubtator, bioc, brat"],
    );
    let error = "bc2gm".parse::<CorpusKind>().unwrap_err().to_string();
    contains(&error, &["`bc2gm`", "choose one of aimed, bioinfer"]);
    let corpus = read(CorpusKind::Ddi, data("ddi")).unwrap();
    contains(&corpus.split("dev").unwrap_err().to_string(), &["`dev` is not a split of ddi; it has train, test"]);
}

#[test]
fn xml_that_is_not_well_formed_or_expands_entities() {
    contains(&unified("</document>", "</docment>"), &["a.xml:17", "not well-formed XML"]);
    contains(&unified("<corpus source", "<corpus <source"), &["a.xml:2", "not well-formed XML"]);
    let bomb =
        "<?xml version=\"1.0\"?>\n<!DOCTYPE c [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;&a;\">]>\n<corpus>&b;</corpus>";
    contains(&refuse(CorpusKind::Aimed, "a.xml", bomb), &["a.xml:2", "document type", "refused"]);
    let outside = "<!DOCTYPE c [<!ENTITY e SYSTEM \"file:///etc/passwd\">]><document id=\"&e;\"/>";
    contains(&refuse(CorpusKind::Ddi, "a.xml", outside), &["a.xml:1", "document type", "refused"]);
    contains(&unified("&amp;", "&alpha;"), &["a.xml:4", "`&alpha;`", "refused"]);
    contains(&unified("<corpus source", "<?x?><corps source"), &["not well-formed"]);
    contains(&refuse(CorpusKind::Aimed, "a.xml", "<document id='d'/>"), &["a.xml:1", "<document>, not the <corpus>"]);
    contains(&refuse(CorpusKind::Ddi, "a.xml", "<corpus/>"), &["a.xml:1", "<corpus>, not the <document>"]);
    contains(&refuse(CorpusKind::Aimed, "a.xml", ""), &["a.xml:1", "not well-formed"]);
}

#[test]
fn offsets_that_do_not_match() {
    let shifted = unified("charOffset=\"9-13\"", "charOffset=\"10-14\"");
    contains(&shifted, &["a.xml:6", "entity H.d0.s0.e1 of sentence H.d0.s0", "charOffset 10-14", "`ab2 `", "`Rab2`"]);
    contains(&unified("\"40-45\"", "\"40-450\""), &["a.xml:10", "outside of the sentence's 46 characters"]);
    contains(&unified("\"40-45\"", "\"45-40\""), &["a.xml:10", "not a valid range"]);
    contains(&unified("\"40-45\"", "\"forty\""), &["a.xml:10", "`forty` is not `start-end`"]);
    contains(&unified("\"0-4,14-22\"", "\"0-4,2-22\""), &["a.xml:9", "not a valid range"]);
    contains(&ddi("\"31-39\"", "\"30-35\""), &["a.xml:6", "entity DDI-DrugBank.d9001.s0.e2", "`handmadol`"]);
    contains(&ddi("\"31-39\"", "\"31-40\""), &["a.xml:6", "`handmadol `"]);
    contains(&pairs("\t11\t15", "\t12\t16"), &["a.tsv:2", "e2: characters 12 to 16 are `ef1\"`, not `Def1`"]);
    contains(&pairs("\t11\t15", "\t11\t150"), &["a.tsv:2", "outside of the text"]);
    contains(&pairs("\t11\t15", "\t15\t11"), &["a.tsv:2", "outside of the text"]);
    contains(&pairs("\t11\t15", "\t-1\t15"), &["a.tsv:2", "`-1` is not a number"]);
    let moved = |text: String| text.replace("\t17\t22\t", "\t18\t23\t");
    contains(&chemprot("entities", moved), &["entities.tsv:2", "T2 of 9001", "`OX-1 `", "`COX-1`"]);
    let outside = |text: String| text.replace("\t17\t22\t", "\t17\t2200\t");
    contains(&chemprot("entities", outside), &["entities.tsv:2", "outside of the text"]);
}

#[test]
fn unknown_labels_and_types() {
    contains(&unified("\"False\"", "\"Perhaps\""), &["a.xml:12", "H.d0.s0.p1", "`Perhaps`", "True or False"]);
    contains(&unified("interaction=\"False\"", ""), &["a.xml:12", "<pair> H.d0.s0.p1 has no `interaction`"]);
    contains(&ddi("type=\"effect\"", "type=\"synergy\""), &["a.xml:9", "`synergy`", "mechanism, effect, advise, int"]);
    contains(&ddi("ddi=\"false\"", "ddi=\"no\""), &["a.xml:7", "ddi is `no`"]);
    contains(&ddi("type=\"brand\"", "type=\"food\""), &["`food`", "drug, brand, group, drug_n"]);
    contains(&pairs("\tpositive\t", "\tyes\t"), &["a.tsv:2", "label `yes` is unknown", "negative or positive"]);
    let group = |text: String| text.replacen("CPR:4", "CPR:2", 1);
    contains(&chemprot("gold_standard", group), &["gold_standard.tsv:1", "`CPR:2`", "CPR:3, CPR:4"]);
    let negative = |text: String| text.replacen("CPR:4", "false", 1);
    contains(&chemprot("gold_standard", negative), &["gold_standard.tsv:1", "`false`"]);
    let kind = |text: String| text.replacen("GENE-Y", "GENOME", 1);
    contains(&chemprot("entities", kind), &["entities.tsv:2", "`GENOME`"]);
}

#[test]
fn identifiers_that_are_missing_or_appear_twice() {
    contains(&unified("id=\"H.d0.s0.e1\"", "id=\"H.d0.s0.e0\""), &["a.xml:4", "entity id H.d0.s0.e0 appears twice"]);
    contains(&unified("id=\"H.d0.s0.p1\"", "id=\"H.d0.s0.p0\""), &["pair id H.d0.s0.p0 appears twice"]);
    contains(&unified("id=\"H.d0.s1\"", "id=\"H.d0.s0\""), &["sentence id H.d0.s0 appears twice"]);
    contains(&unified("id=\"H.d1\"", "id=\"H.d0\""), &["a.xml:18", "document H.d0 appears twice"]);
    contains(
        &unified("e2=\"H.d0.s0.e2\"", "e2=\"H.d9\""),
        &["a.xml:11", "e2 is H.d9, which its sentence does not have"],
    );
    contains(&unified(" e2=\"H.d0.s0.e2\"", ""), &["a.xml:11", "has no `e2`"]);
    contains(&unified("<pair id", "<interaction id"), &["mixes <pair> and <interaction>"]);
    let entity = |text: String| text.replace("\tT3\t", "\tT2\t");
    contains(&chemprot("entities", entity), &["entities.tsv:3", "entity T2 of 9001 appears twice"]);
    let document = |text: String| text.replace("9002", "9001");
    contains(&chemprot("abstracts", document), &["abstracts.tsv:2", "abstract 9001 appears twice"]);
    let argument = |text: String| text.replace("Arg2:T2", "Arg2:T77");
    contains(&chemprot("gold_standard", argument), &["gold_standard.tsv:1", "T77 of 9001 is not in the table"]);
    let swapped = |text: String| text.replacen("Arg1:T1\tArg2:T2", "Arg1:T2\tArg2:T1", 1);
    contains(&chemprot("gold_standard", swapped), &["gold_standard.tsv:1", "must be a chemical"]);
    let unknown = |text: String| text.replace("9001", "42");
    contains(&chemprot("entities", unknown), &["entities.tsv:1", "abstract 42 is not in the table"]);
    contains(&pairs("T.d0.s0.p1", "T.d0.s0.p0"), &["pair id T.d0.s0.p0 appears twice"]);
    contains(&pairs("1\tT.d0\tT.d0.s0\tT.d0.s0.p1", "2\tT.d0\tT.d0.s0\tT.d0.s0.p1"), &["a.tsv:3", "in two folds"]);
    // The same document in two files.
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.xml", "b.xml"] {
        std::fs::copy(data("ddi/Train/DrugBank/Handmadol_ddi.xml"), folder.path().join(name)).unwrap();
    }
    let twice = message(read(CorpusKind::Ddi, folder.path()), folder.path());
    contains(&twice, &["b.xml: document DDI-DrugBank.d9001 is also in a.xml"]);
}

#[test]
fn splits_without_pairs_and_missing_tables() {
    let empty = "<corpus><document id='d'><sentence id='s' text='Nothing.'/></document></corpus>";
    contains(&refuse(CorpusKind::Aimed, "a.xml", empty), &["a.xml", "split `all` has no candidate pair"]);
    contains(&refuse(CorpusKind::Aimed, "a.xml", "<corpus/>"), &["no candidate pair"]);
    contains(&refuse(CorpusKind::Aimed, "a.tsv", ""), &["a.tsv:1: no column `fold`"]);
    contains(&chemprot("entities", |_| String::new()), &["gold_standard.tsv:1", "not in the table of entities"]);
    contains(&chemprot("abstracts", |_| "9001\ttitle only".into()), &["abstracts.tsv:1", "must have 3 columns"]);
    let folder = tempfile::tempdir().unwrap();
    let name = "chemprot_training_abstracts.tsv";
    std::fs::copy(data("chemprot/training").join(name), folder.path().join(name)).unwrap();
    let missing = message(read(CorpusKind::Chemprot, folder.path()), folder.path());
    contains(&missing, &["the train set has no *_entities*.tsv"]);
    let second = folder.path().join("chemprot_train_abstracts.tsv");
    std::fs::copy(data("chemprot/training").join(name), second).unwrap();
    contains(&message(read(CorpusKind::Chemprot, folder.path()), folder.path()), &["second table of abstracts"]);
}

/// A zip archive with one entry.
fn archive(name: &str, content: &[u8]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    writer.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
    writer.write_all(content).unwrap();
    writer.finish().unwrap().into_inner()
}

#[test]
fn archives_that_are_truncated_corrupt_or_bombs() {
    let good = archive("Train/a.xml", &std::fs::read(data("ddi/Train/DrugBank/Handmadol_ddi.xml")).unwrap());
    for length in [0, 10, good.len() / 2, good.len() - 1] {
        let message = refuse(CorpusKind::Ddi, "a.zip", &good[..length]);
        contains(&message, &["a.zip", "not a complete zip archive", "download it again"]);
    }
    let mut corrupt = good.clone();
    corrupt[60..70].fill(0x55);
    contains(&refuse(CorpusKind::Ddi, "a.zip", &corrupt), &["a.zip/Train/a.xml: corrupt in the archive"]);
    // 100 MB of spaces are packed into 100 kB. They are refused by their declared size, without unpacking.
    let bomb = archive("Train/a.xml", &vec![b' '; 100 << 20]);
    let started = std::time::Instant::now();
    contains(&refuse(CorpusKind::Ddi, "a.zip", &bomb), &["Train/a.xml unpacks to 104857600 bytes", "refused"]);
    // An archive that declares a smaller size is unpacked only up to that size.
    let size = (100_u32 << 20).to_le_bytes();
    let mut lying = bomb.clone();
    let positions: Vec<usize> = (0..lying.len() - 4).filter(|&at| lying[at..at + 4] == size).collect();
    assert!(!positions.is_empty());
    for at in positions {
        lying[at..at + 4].copy_from_slice(&1000_u32.to_le_bytes());
    }
    contains(&refuse(CorpusKind::Ddi, "a.zip", &lying), &["a.zip"]);
    assert!(started.elapsed().as_secs() < 5);
    contains(&refuse(CorpusKind::Ddi, "a.zip", archive("readme.txt", b"hello")), &["no .xml file"]);
}

/// Deep nesting and huge numbers are errors, not crashes.
#[test]
fn deeply_nested_xml_and_huge_numbers_are_refused_without_a_crash() {
    let deep = format!("{}{}", "<corpus>".repeat(200_000), "</corpus>".repeat(200_000));
    contains(&refuse(CorpusKind::Aimed, "a.xml", deep), &["a.xml"]);
    contains(&refuse(CorpusKind::Aimed, "a.xml", "<corpus>".repeat(200_000)), &["a.xml:1", "not well-formed"]);
    let huge = "99999999999999999999999999";
    contains(&unified("\"40-45\"", &format!("\"40-{huge}\"")), &["is not `start-end`"]);
    contains(&unified("\"40-45\"", &format!("\"40-{}\"", usize::MAX)), &["outside of the sentence's"]);
    contains(&ddi("\"31-39\"", &format!("\"31-{}\"", usize::MAX)), &["not a valid range"]);
}

/// Read a folder of corrupt files: an error, or a corpus with all guarantees, never a panic.
fn read_corrupt(kind: CorpusKind, files: &[(String, Vec<u8>)]) {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    if let Ok(corpus) = read(kind, folder.path()) {
        for marking in Marking::ALL {
            for sentence in corpus.sentences() {
                for instance in instances(std::slice::from_ref(sentence), &corpus.task, marking).unwrap() {
                    super::marking::check_copied(&instance, &sentence.text, marking != Marking::Blue);
                }
            }
        }
        corpus.statistics();
        corpus.content_hash();
    }
}

/// The files of a folder of the hand-written data.
fn files(folder: &str) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(data(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

/// Edits of a file: the position in thousandths, the number of bytes removed there, and the bytes
/// inserted.
fn edits() -> impl Strategy<Value = Vec<(usize, usize, Vec<u8>)>> {
    let bytes = prop_oneof![
        Just(b"9".to_vec()),
        Just(b"-".to_vec()),
        Just(b"\t".to_vec()),
        Just(b"\"".to_vec()),
        Just("β".as_bytes().to_vec()),
        Just(b"\n".to_vec()),
        Just(Vec::new()),
        proptest::collection::vec(any::<u8>(), 1..3),
    ];
    proptest::collection::vec((0_usize..1000, 0_usize..3, bytes), 1..4)
}

proptest! {
    #[test]
    fn corrupt_files_never_panic(edits in edits(), which in 0_usize..8) {
        let all = [
            (CorpusKind::Aimed, "ppi", Some("pairs_exclusive.xml")),
            (CorpusKind::Aimed, "ppi", Some("interactions_inclusive.xml")),
            (CorpusKind::Aimed, "ppi", Some("pairs.tsv")),
            (CorpusKind::Ddi, "ddi/Train/DrugBank", None),
            (CorpusKind::Chemprot, "chemprot/training", None),
            (CorpusKind::Table, "table", Some("pairs.tsv")),
            (CorpusKind::Table, "table", Some("pairs.csv")),
            (CorpusKind::Table, "table", Some("pairs.jsonl")),
        ];
        let (kind, folder, only) = all[which];
        let mut files = files(folder);
        files.retain(|(name, _)| only.is_none_or(|only| only == name));
        for (number, (at, remove, bytes)) in edits.into_iter().enumerate() {
            let count = files.len();
            let content = &mut files[number % count].1;
            let at = content.len() * at / 1000;
            let end = (at + remove).min(content.len());
            content.splice(at..end, bytes);
        }
        read_corrupt(kind, &files);
    }
}
