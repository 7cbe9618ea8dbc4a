//! The readers on small hand-written files: every dialect, every unusual annotation.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use biorel::corpus::{Corpus, CorpusKind, ReadOptions, Sentence, Span, Task};

use super::{data, findings, read};

fn only_pairs(corpus: &Corpus) -> Vec<(&str, usize, usize, &str)> {
    let of = |sentence: &Sentence| sentence.pairs.clone();
    let label = |label: usize| corpus.task.labels[label].as_str();
    let pairs: Vec<_> = corpus.sentences().flat_map(of).collect();
    let ids: BTreeMap<String, &str> =
        corpus.sentences().flat_map(|s| &s.pairs).map(|pair| (pair.id.clone(), pair.id.as_str())).collect();
    pairs.iter().map(|pair| (ids[&pair.id], pair.entity1, pair.entity2, label(pair.label))).collect()
}

#[test]
fn unified_with_pairs_and_exclusive_ends() {
    let corpus = read(CorpusKind::Aimed, data("ppi/pairs_exclusive.xml")).unwrap();
    assert_eq!((corpus.name.as_str(), corpus.task.name.as_str()), ("handmade", "ppi"));
    assert_eq!(corpus.task, Task::ppi());
    assert_eq!(
        only_pairs(&corpus),
        [("H.d0.s0.p0", 0, 2, "positive"), ("H.d0.s0.p1", 2, 3, "negative"), ("H.d0.s0.p2", 4, 5, "positive")]
    );
    let sentence = corpus.sentences().next().unwrap();
    assert_eq!(sentence.text, "Rab1 and Rab2 proteins bind α-catenin & Sec23.");
    assert_eq!(sentence.entities[4].spans, [Span::new(0, 4), Span::new(14, 22)]);
    assert_eq!(sentence.entities[4].bounding_span(), Span::new(0, 22));
    assert_eq!(sentence.document, "H.d0");
    // A protein that interacts with itself is gold, but there is no second mention to mark.
    assert_eq!(findings(&corpus), [("lost", Some("all"), "H.d0.s0.p3")]);
    let row = &corpus.statistics()[0];
    assert_eq!((row.documents, row.documents_with_pairs, row.sentences, row.sentences_with_pairs), (1, 1, 2, 1));
    assert_eq!((row.entities, row.pairs, row.lost), (6, 3, 1));
    assert_eq!(corpus.lost("all").next().unwrap().label, Some(1));
}

#[test]
fn unified_with_interactions_and_inclusive_ends() {
    let corpus = read(CorpusKind::Aimed, data("ppi/interactions_inclusive.xml")).unwrap();
    assert_eq!(
        only_pairs(&corpus),
        [("H.d2.s0.p0", 0, 1, "positive"), ("H.d2.s0.p1", 0, 2, "negative"), ("H.d2.s0.p2", 1, 2, "negative")]
    );
    assert_eq!(corpus.sentences().next().unwrap().entities[0].spans, [Span::new(0, 1)]);
    assert_eq!(findings(&corpus), [("skipped", Some("all"), "H.d2.s0.i1"), ("lost", Some("all"), "H.d2.s0.i2")]);
}

#[test]
fn unified_files_of_both_conventions_together() {
    let files = [data("ppi/pairs_exclusive.xml"), data("ppi/interactions_inclusive.xml")];
    let corpus = Corpus::read(CorpusKind::Aimed, &files, &ReadOptions::default()).unwrap();
    assert_eq!(corpus.statistics()[0].pairs, 6);
    assert_eq!(corpus.folds, None);
}

#[test]
fn pairs_with_folds() {
    let corpus = read(CorpusKind::Aimed, data("ppi/pairs.tsv")).unwrap();
    assert_eq!(only_pairs(&corpus)[2], ("T.d1.s0.p0", 0, 1, "negative"));
    assert_eq!(corpus.folds, Some(BTreeMap::from([("T.d0".to_owned(), 1), ("T.d1".to_owned(), 0)])));
    // Three mentions for two pairs that share one; the quotes belong to the text.
    let first = corpus.sentences().next().unwrap();
    assert_eq!((first.entities.len(), first.text.as_str()), (3, "Abc binds \"Def1\" and Def1."));
    // The table takes precedence over XML in the same folder.
    let folder = read(CorpusKind::Aimed, data("ppi")).unwrap();
    assert_eq!((folder.statistics()[0].pairs, folder.report.findings.len()), (3, 2));
}

#[test]
fn ddi_folder() {
    let corpus = read(CorpusKind::Ddi, data("ddi")).unwrap();
    let names: Vec<_> = corpus.splits.iter().map(|split| split.name.as_str()).collect();
    assert_eq!(names, ["train", "test"]);
    let label = |sentence: usize, pair: usize| {
        corpus.task.labels[corpus.splits[0].sentences[sentence].pairs[pair].label].as_str()
    };
    assert_eq!([label(0, 0), label(0, 1), label(0, 2), label(1, 0)], ["false", "mechanism", "effect", "int"]);
    let beta = &corpus.splits[0].sentences[0].entities[..2];
    assert_eq!(beta[0].spans, [Span::new(0, 6), Span::new(16, 24)]);
    assert_eq!(beta[1].spans, [Span::new(11, 24)]);
    let toxin = &corpus.splits[1].sentences[0].entities[1];
    assert_eq!((toxin.spans.as_slice(), toxin.text.as_str()), (&[Span::new(18, 25)][..], "β-toxin"));
    let mut all = findings(&corpus);
    assert_eq!(all.pop(), Some(("repaired", Some("train"), "DDI-DrugBank.d9001.s1.p0")));
    assert_eq!(all.len(), 1, "the file of the test for names");
    let row = &corpus.statistics()[0];
    assert_eq!((row.documents, row.documents_with_pairs, row.sentences), (2, 1, 3));
}

#[test]
fn ddi_offsets_one_character_off_are_moved_and_reported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.xml");
    let text = r#"<document id="d"><sentence id="d.s0" text="Of (R)- or (S)-warfarin, one.">
        <entity id="e0" charOffset="2-5;14-21" type="drug" text="(R)-warfarin"/>
        <entity id="e1" charOffset="11-22" type="drug" text="(S)-warfarin"/>
        <pair id="p" e1="e0" e2="e1" ddi="false"/></sentence></document>"#;
    std::fs::write(&path, text).unwrap();
    let corpus = read(CorpusKind::Ddi, &path).unwrap();
    assert_eq!(corpus.sentences().next().unwrap().entities[0].spans, [Span::new(3, 7), Span::new(15, 23)]);
    assert_eq!(findings(&corpus), [("repaired", Some("all"), "e0")]);
}

/// A folder further up that happens to be called `test` does not decide the split.
#[test]
fn only_the_corpus_own_folders_name_its_parts() {
    let folder = tempfile::tempdir().unwrap();
    let mine = folder.path().join("test/mine");
    std::fs::create_dir_all(&mine).unwrap();
    std::fs::copy(data("ddi/Train/DrugBank/Handmadol_ddi.xml"), mine.join("a.xml")).unwrap();
    let names = |path: &Path| read(CorpusKind::Ddi, path).unwrap().splits[0].name.clone();
    assert_eq!(names(&mine), "all");
    assert_eq!(names(&mine.join("a.xml")), "test");
    assert_eq!(names(&data("ddi/Train")), "train");
    assert_eq!(names(&data("ddi/Train/DrugBank/Handmadol_ddi.xml")), "train");
}

/// Pack a folder in the same way as the archives of the corpora.
fn pack(folder: &Path, archive: &Path) {
    fn add(writer: &mut zip::ZipWriter<File>, root: &Path, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                add(writer, root, &path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
                writer.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
                writer.write_all(&std::fs::read(&path).unwrap()).unwrap();
            }
        }
    }
    let mut writer = zip::ZipWriter::new(File::create(archive).unwrap());
    for junk in ["__MACOSX/Train/._a.xml", "Train/.DS_Store"] {
        writer.start_file(junk, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(b"\x00\xff").unwrap();
    }
    add(&mut writer, folder, folder);
    writer.finish().unwrap();
}

#[test]
fn an_archive_is_read_as_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    for (kind, name) in [(CorpusKind::Ddi, "ddi"), (CorpusKind::Chemprot, "chemprot"), (CorpusKind::Aimed, "ppi")] {
        let archive = folder.path().join(format!("{name}.zip"));
        pack(&data(name), &archive);
        let (packed, plain) = (read(kind, &archive).unwrap(), read(kind, data(name)).unwrap());
        assert_eq!(packed.splits, plain.splits);
        assert_eq!(packed.report.findings.len(), plain.report.findings.len());
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3, "nothing is unpacked");
}

#[test]
fn chemprot_folder() {
    let corpus = read(CorpusKind::Chemprot, data("chemprot")).unwrap();
    let names: Vec<_> = corpus.splits.iter().map(|split| split.name.as_str()).collect();
    assert_eq!(names, ["train", "dev", "test"]);
    let texts: Vec<_> = corpus.splits[0].sentences.iter().map(|sentence| sentence.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "Aspirin inhibits COX-1 and COX-2",
            "It is selective.",
            "The α-form of aspirin activates IκB kinase in E. coli.",
            "Nothing more.",
            "A title.",
            "No relation here."
        ]
    );
    let pairs: Vec<_> = only_pairs(&corpus).into_iter().take(5).collect();
    assert_eq!(
        pairs,
        [
            // GENE-N before GENE-Y; two gold groups of one pair are two instances.
            ("9001.T1.T3", 0, 2, "CPR:4"),
            ("9001.T1.T2.CPR:4", 0, 1, "CPR:4"),
            ("9001.T1.T2.CPR:9", 0, 1, "CPR:9"),
            ("9001.T4.T5", 0, 1, "CPR:3"),
            ("9001.T4.T6", 0, 2, "false"),
        ]
    );
    let kinase = &corpus.splits[0].sentences[2].entities[1];
    assert_eq!((kinase.text.as_str(), kinase.spans.as_slice()), ("IκB kinase", &[Span::new(32, 42)][..]));
    let mut found = findings(&corpus);
    found.retain(|(_, split, _)| split.is_some());
    assert_eq!(found, [("skipped", Some("train"), "9001.T4.T5"), ("lost", Some("train"), "9001.T1.T5")]);
    assert_eq!(corpus.statistics()[0].lost, 1);
    assert_eq!(corpus.lost("train").next().unwrap().label, corpus.task.label("CPR:6"));
}

#[test]
fn the_hash_depends_on_the_content() {
    let corpus = read(CorpusKind::Chemprot, data("chemprot")).unwrap();
    let again = read(CorpusKind::Chemprot, data("chemprot")).unwrap();
    assert_eq!(corpus.content_hash(), again.content_hash());
    assert_eq!(corpus.content_hash().len(), 64);
    let [train, dev, _] = corpus.splits.as_slice() else { panic!("three splits") };
    assert_ne!(train.content_hash(&corpus.task), dev.content_hash(&corpus.task));
    let changes: [fn(&mut Sentence); 5] = [
        |sentence| sentence.text.push(' '),
        |sentence| sentence.document.push('x'),
        |sentence| sentence.entities[0].spans[0].end -= 1,
        |sentence| sentence.pairs[0].label = 0,
        |sentence| drop(sentence.pairs.pop()),
    ];
    for change in changes {
        let mut changed = corpus.clone();
        change(&mut changed.splits[0].sentences[0]);
        assert_ne!(changed.content_hash(), corpus.content_hash());
    }
}

#[test]
fn the_report_is_summarised_by_reason() {
    let corpus = read(CorpusKind::Aimed, data("ppi")).unwrap();
    let summary = corpus.report.summary();
    assert_eq!(summary.len(), 1);
    assert!(summary[0].starts_with("skipped 2: another form of the corpus"), "{summary:?}");
}

#[test]
fn sentences_built_by_a_user_are_checked() {
    let corpus = read(CorpusKind::Ddi, data("ddi")).unwrap();
    let good = corpus.splits[0].sentences[0].clone();
    good.check().unwrap();
    type Change = fn(&mut Sentence);
    let bad: [(Change, &str); 6] = [
        (|s| s.entities[2].spans[0].end = 4_000, "end 4000 is outside of the text"),
        (|s| s.entities[2].spans[0] = Span::new(7, 7), "start 7 is not before end 7"),
        (|s| s.entities[0].spans.reverse(), "segments overlap or are not in order"),
        (|s| s.entities[0].spans.clear(), "has no offsets"),
        (|s| s.pairs[0].entity2 = 9, "names an entity that the sentence does not have"),
        (|s| s.pairs[0].entity2 = s.pairs[0].entity1, "has the same entity twice"),
    ];
    for (change, message) in bad {
        let mut sentence = good.clone();
        change(&mut sentence);
        let error = sentence.check().unwrap_err().to_string();
        assert!(error.contains(message) && error.contains(&good.id), "{error}");
    }
}
