//! A user's own pairs, from files and from memory.

use std::collections::BTreeMap;

use biorel::corpus::{Averaging, Corpus, CorpusKind, ReadOptions, Sentence, Span, TableColumns};
use biorel::encode::{Instance, Marking, instances};

use super::{data, findings, read};

fn columns() -> TableColumns {
    TableColumns {
        text: vec!["Gene α causes gout.".into(), "Gene α causes gout.".into(), "Gene B spares gout.".into()],
        label: vec!["causes".into(), "none".into(), "none".into()],
        entity1_start: Some(vec![0, 5, 0]),
        entity1_end: Some(vec![6, 6, 6]),
        entity2_start: Some(vec![14, 14, 14]),
        entity2_end: Some(vec![18, 18, 18]),
        ..TableColumns::default()
    }
}

fn set(column: &mut Option<Vec<usize>>, row: usize, value: usize) {
    column.as_mut().unwrap()[row] = value;
}

fn drop_offsets(columns: &mut TableColumns) {
    let TableColumns { entity1_start, entity1_end, entity2_start, entity2_end, .. } = columns;
    [entity1_start, entity1_end, entity2_start, entity2_end].into_iter().for_each(|column| *column = None);
}

fn refuse(change: impl Fn(&mut TableColumns), options: &ReadOptions) -> String {
    let mut columns = columns();
    change(&mut columns);
    Corpus::from_columns(&columns, options).expect_err("must be refused").to_string()
}

#[test]
fn the_three_file_formats_are_the_same_corpus() {
    let tsv = read(CorpusKind::Table, data("table/pairs.tsv")).unwrap();
    for other in ["pairs.csv", "pairs.jsonl"] {
        assert_eq!(read(CorpusKind::Table, data("table").join(other)).unwrap(), tsv, "{other}");
    }
    assert_eq!(tsv.task.labels, ["none", "causes", "treats"]);
    assert_eq!((tsv.task.negative, tsv.task.averaging), (Some(0), Averaging::Micro));
    let splits: Vec<_> = tsv.splits.iter().map(|split| (split.name.as_str(), split.pairs())).collect();
    assert_eq!(splits, [("train", 2), ("test", 1)]);
    assert_eq!(tsv.folds.as_ref().unwrap()["d1"], 1);
    assert_eq!(tsv.sentences().next().unwrap().entities[0].spans, [Span::new(0, 6)]);
    assert!(tsv.task.candidates.allow("gene", "disease") && !tsv.task.candidates.allow("disease", "gene"));
    assert_eq!(tsv.task.tag("disease"), "DISEASE");
    assert_eq!(findings(&tsv), []);
}

#[test]
fn columns_in_memory_need_only_text_label_and_offsets() {
    let corpus = Corpus::from_columns(&columns(), &ReadOptions::default()).unwrap();
    assert_eq!((corpus.name.as_str(), corpus.splits[0].name.as_str()), ("table", "all"));
    // The two rows with one text are one sentence, which then has three mentions.
    let sentences: Vec<_> = corpus.sentences().map(|s| (s.id.as_str(), s.entities.len(), s.pairs.len())).collect();
    assert_eq!(sentences, [("table.s0", 3, 2), ("table.s1", 2, 1)]);
    assert_eq!(corpus.sentences().next().unwrap().entities[0].entity_type, "entity");
    assert_eq!(findings(&corpus), [("repaired", None, "table")]);
    assert_eq!(corpus.task.averaging, Averaging::Binary);
}

#[test]
fn labels_and_negative_can_be_given() {
    let options = |labels: &[&str], negative: Option<&str>| ReadOptions {
        labels: Some(labels.iter().map(|label| (*label).to_owned()).collect()),
        negative: negative.map(str::to_owned),
        name: Some("gout".into()),
        ..ReadOptions::default()
    };
    let corpus = Corpus::from_columns(&columns(), &options(&["treats", "none", "causes"], Some("none"))).unwrap();
    assert_eq!((corpus.name.as_str(), corpus.task.negative), ("gout", Some(1)));
    assert_eq!(corpus.sentences().next().unwrap().pairs[0].label, 2);
    let error = refuse(|_| (), &options(&["none", "treats"], None));
    assert_eq!(error, "table: row 0: label `causes` is not one of the task's labels: none, treats");
    assert!(refuse(|_| (), &options(&["none", "causes"], Some("nil"))).starts_with("negative: `nil`"));
    assert!(refuse(|_| (), &options(&["none", "none", "causes"], None)).contains("appears twice"));
}

#[test]
fn unusable_rows_in_memory() {
    let default = ReadOptions::default();
    type Change = Box<dyn Fn(&mut TableColumns)>;
    let cases: Vec<(Change, &str)> = vec![
        (
            Box::new(|c| set(&mut c.entity2_end, 2, 99)),
            "row 2: entity2_end 99 is outside of the text, which has 19 characters",
        ),
        (Box::new(|c| set(&mut c.entity1_end, 1, 5)), "row 1: entity1_start 5 is not before entity1_end 5"),
        (Box::new(|c| c.entity1 = Some(vec!["Gene α".into(); 3])), "row 1: entity1 is `Gene α`, but characters 5 to 6"),
        (Box::new(|c| c.id = Some(vec!["p".into(); 3])), "row 1: id p appears twice"),
        (Box::new(|c| c.sentence = Some(vec!["s".into(); 3])), "row 2: sentence s has another text"),
        (
            Box::new(|c| {
                set(&mut c.entity2_start, 0, 0);
                set(&mut c.entity2_end, 0, 6);
            }),
            "row 0: both arguments are the same mention",
        ),
        (Box::new(|c| c.entity1_end = None), "no column `entity1_end`"),
        (Box::new(drop_offsets), "row 0: there are no offsets, and the text has no tag such as @GENE$"),
        (
            Box::new(|c| {
                c.row = Some(vec!["a".into(), "b".into(), "c".into()]);
                set(&mut c.entity2_end, 2, 99);
            }),
            "row c: entity2_end 99 is outside",
        ),
        (Box::new(|c| drop(c.label.pop())), "column `label` has 2 rows where `text` has 3"),
        (Box::new(|c| c.split = Some(vec![])), "column `split` has 0 rows"),
        (Box::new(|c| *c = TableColumns::default()), "has no rows"),
        (Box::new(|c| c.label.fill("none".into())), "two labels or more"),
        (
            Box::new(|c| {
                c.document = Some(vec!["d".into(); 3]);
                c.fold = Some(vec![0, 0, 1]);
            }),
            "row 2: document d is in two folds",
        ),
        (
            Box::new(|c| {
                c.sentence = Some(vec!["s".into(), "s".into(), "t".into()]);
                c.split = Some(vec!["train".into(), "test".into(), "test".into()]);
            }),
            "row 1: sentence s is in two splits: train and test",
        ),
    ];
    for (change, message) in cases {
        let error = refuse(change, &default);
        assert!(error.contains(message), "`{message}` is not in: {error}");
    }
}

/// A table of texts that are already anonymised, with one label each.
fn anonymised(rows: &[(&str, &str)]) -> TableColumns {
    let (text, label) = rows.iter().map(|(text, label)| ((*text).to_owned(), (*label).to_owned())).unzip();
    TableColumns { text, label, ..TableColumns::default() }
}

/// The marked texts of all pairs with their labels.
fn marked(corpus: &Corpus, marking: Marking) -> Vec<(String, String)> {
    let sentences: Vec<_> = corpus.sentences().cloned().collect();
    let show = |instance: Instance| (instance.text, corpus.task.labels[instance.label.unwrap()].clone());
    instances(&sentences, &corpus.task, marking).unwrap().into_iter().map(show).collect()
}

#[test]
fn pairs_keep_the_order_of_the_table_and_the_number_of_their_row() {
    let mut columns = columns();
    // Row 1 has another sentence than rows 0 and 2.
    columns.text.swap(1, 2);
    set(&mut columns.entity1_start, 1, 0);
    set(&mut columns.entity1_start, 2, 5);
    let corpus = Corpus::from_columns(&columns, &ReadOptions::default()).unwrap();
    assert_eq!(corpus.sentences().map(|sentence| sentence.pairs.len()).collect::<Vec<_>>(), [2, 1]);
    let sentences: Vec<_> = corpus.sentences().cloned().collect();
    let read = instances(&sentences, &corpus.task, Marking::Typed).unwrap();
    assert_eq!(read.iter().map(|instance| instance.row.unwrap().row).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(
        read.iter().map(|instance| instance.mentions[0].as_str()).collect::<Vec<_>>(),
        ["Gene α", "Gene B", "α"]
    );
    assert_eq!(Corpus::from_bytes(&corpus.to_bytes().unwrap()).unwrap(), corpus);
}

#[test]
fn rows_of_several_files_are_numbered_per_file_and_ordered_by_file() {
    let folder = tempfile::tempdir().unwrap();
    let header = "text,label,entity1_start,entity1_end,entity2_start,entity2_end,split\n";
    for (name, texts) in [("a", ["A b", "C d", "A b"]), ("b", ["E f", "A b", "E f"])] {
        let rows: String =
            texts.iter().enumerate().map(|(row, text)| format!("{text},l{},0,1,2,3,all\n", row % 2)).collect();
        std::fs::write(folder.path().join(format!("{name}.csv")), header.to_owned() + &rows).unwrap();
    }
    let corpus = read(CorpusKind::Table, folder.path()).unwrap();
    let sentences: Vec<_> = corpus.sentences().cloned().collect();
    let read = instances(&sentences, &corpus.task, Marking::Markers).unwrap();
    let found: Vec<_> = read.iter().map(|one| (one.row.unwrap().table, one.row.unwrap().row)).collect();
    assert_eq!(found, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]);
    assert!(read[4].text.starts_with("[E1] A"));
}

#[test]
fn tags_in_the_text_are_the_entities_and_keep_their_types() {
    let rows = [
        ("The @GENE$ variant is linked to @DISEASE$.", "1"),
        ("No tie of @DISEASE$ to @GENE$ was seen.", "0"),
        ("α @CELL-LINE$ has @GENE2$", "0"),
        ("inhibits @DRUG-DRUG$ and", "1"),
        ("a @CHEM-GENE$ too", "0"),
    ];
    let corpus = Corpus::from_columns(&anonymised(&rows), &ReadOptions::default()).unwrap();
    for marking in [Marking::Typed, Marking::Blue] {
        let same = rows.map(|(text, label)| (text.to_owned(), label.to_owned()));
        assert_eq!(marked(&corpus, marking), same, "{marking}");
    }
    let types = |s: &Sentence| {
        let [pair] = s.pairs.as_slice() else { panic!("{}", s.text) };
        [pair.entity1, pair.entity2].map(|entity| s.entities[entity].entity_type.clone())
    };
    let types: Vec<_> = corpus.sentences().map(types).collect();
    assert_eq!(types[..2], [["GENE", "DISEASE"], ["DISEASE", "GENE"]]);
    assert_eq!(types[3..], [["DRUG", "DRUG"], ["CHEM", "GENE"]]);
    let reason = &corpus.report.findings[1].reason;
    assert!(
        reason.starts_with("5 rows: no offsets; the tags in the text are the entities (@GENE$, @DISEASE$,"),
        "{reason}"
    );
}

#[test]
fn types_and_mentions_with_tags() {
    let mut columns = anonymised(&[("@DISEASE$ needs @GENE$.", "yes"), ("@GENE$ spares @DISEASE$.", "no")]);
    columns.entity1_type = Some(vec!["gene".into(), String::new()]);
    columns.entity1 = Some(vec!["BRCA1".into(), "TP53".into()]);
    let corpus = Corpus::from_columns(&columns, &ReadOptions::default()).unwrap();
    let sentences: Vec<_> = corpus.sentences().cloned().collect();
    let read = instances(&sentences, &corpus.task, Marking::Typed).unwrap();
    let mentions: Vec<_> = read.iter().map(|one| one.mentions.each_ref().map(String::as_str)).collect();
    assert_eq!(mentions, [["BRCA1", "@DISEASE$"], ["TP53", "@DISEASE$"]]);
    assert_eq!((read[0].text.as_str(), read[0].entities[0]), ("@DISEASE$ needs @GENE$.", Span::new(16, 22)));
    columns.entity1_type = Some(vec!["drug".into(), String::new()]);
    let error = Corpus::from_columns(&columns, &ReadOptions::default()).unwrap_err().to_string();
    assert_eq!(error, "table: row 0: the types are drug, but the text has the tags @DISEASE$ and @GENE$");
}

#[test]
fn offsets_over_tags_keep_the_types_of_the_tags() {
    let mut columns = anonymised(&[("The @GENE$ is in @DISEASE$.", "yes"), ("BRCA1 is not in @DISEASE$.", "no")]);
    columns.entity1_start = Some(vec![4, 0]);
    columns.entity1_end = Some(vec![10, 5]);
    columns.entity2_start = Some(vec![17, 16]);
    columns.entity2_end = Some(vec![26, 25]);
    let corpus = Corpus::from_columns(&columns, &ReadOptions::default()).unwrap();
    let texts: Vec<_> = marked(&corpus, Marking::Typed).into_iter().map(|(text, _)| text).collect();
    assert_eq!(texts, ["The @GENE$ is in @DISEASE$.", "@ENTITY$ is not in @DISEASE$."]);
    let reason = &corpus.report.findings[1].reason;
    assert_eq!(reason, "2 rows: an entity without a type gets the type of its tag in the text (@GENE$, @DISEASE$)");
    // A type that the user gives takes precedence.
    columns.entity1_type = Some(vec!["protein".into(); 2]);
    let corpus = Corpus::from_columns(&columns, &ReadOptions::default()).unwrap();
    assert_eq!(marked(&corpus, Marking::Typed)[0].0, "The @PROTEIN$ is in @DISEASE$.");
}

#[test]
fn rows_with_fewer_or_more_than_two_tags_are_named() {
    let refuse = |text: &str| {
        let columns = anonymised(&[("@A$ and @B$", "yes"), (text, "no")]);
        Corpus::from_columns(&columns, &ReadOptions::default()).expect_err(text).to_string()
    };
    assert_eq!(
        refuse("@A$ alone"),
        "table: row 1: the text has one tag (@A$) where a pair has two: keep the tags of one pair only, or give \
         the columns entity1_start, entity1_end, entity2_start, entity2_end"
    );
    assert!(
        refuse("@A$, @A$ and @B$")
            .starts_with("table: row 1: the text has 3 tags (@A$, @A$, @B$) where a pair has two")
    );
    assert!(
        refuse("[E1] a [/E1] [E2] b [/E2]").starts_with("table: row 1: there are no offsets, and the text has no tag")
    );
    let mut columns = anonymised(&[("@A$ and @B$", "yes"), ("@A$ or @B$", "no")]);
    columns.sentence = Some(vec!["s".into(); 2]);
    let error = Corpus::from_columns(&columns, &ReadOptions::default()).unwrap_err().to_string();
    assert!(error.ends_with("omit the column `sentence`"), "{error}");
}

#[test]
fn anonymised_files_of_each_format() {
    let folder = tempfile::tempdir().unwrap();
    let files = [
        ("a.tsv", "text\tlabel\nThe @GENE$ in @DISEASE$.\t1\nNo @GENE$ in @DISEASE$.\t0\n"),
        ("a.csv", "text,label\nThe @GENE$ in @DISEASE$.,1\nNo @GENE$ in @DISEASE$.,0\n"),
        (
            "a.jsonl",
            "{\"text\": \"The @GENE$ in @DISEASE$.\", \"label\": 1}\n{\"text\": \"No @GENE$ in @DISEASE$.\", \"label\": 0}\n",
        ),
    ];
    for (name, content) in files {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let corpus = read(CorpusKind::Table, &path).unwrap();
        let texts: Vec<_> = marked(&corpus, Marking::Typed).into_iter().map(|(text, _)| text).collect();
        assert_eq!(texts, ["The @GENE$ in @DISEASE$.", "No @GENE$ in @DISEASE$."], "{name}");
        std::fs::write(&path, content.replace("No @GENE$", "No GENE")).unwrap();
        let error = read(CorpusKind::Table, &path).unwrap_err().to_string();
        let line = if name.ends_with("jsonl") { 2 } else { 3 };
        assert!(error.contains(&format!("{name}:{line}: the text has one tag (@DISEASE$)")), "{error}");
    }
}

#[test]
fn several_files_become_splits_with_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let header = "text,label,entity1_start,entity1_end,entity2_start,entity2_end\n";
    for (name, label) in [("test", "yes"), ("train", "no"), ("extra", "yes")] {
        let row = format!("{header}\"{name}, a \"\"b\"\"\",{label},0,2,3,4\n");
        std::fs::write(folder.path().join(format!("{name}.csv")), row).unwrap();
    }
    let corpus = read(CorpusKind::Table, folder.path()).unwrap();
    let names: Vec<_> = corpus.splits.iter().map(|split| split.name.as_str()).collect();
    assert_eq!(names, ["train", "test", "extra"]);
    assert_eq!(corpus.splits[1].sentences[0].text, "test, a \"b\"");
    assert_eq!(corpus.task.labels, ["no", "yes"]);
}

#[test]
fn columns_can_have_other_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tsv");
    std::fs::write(&path, "sent\tlabel\tb1\te1\tb2\te2\nA b\tyes\t0\t1\t2\t3\nA c\tno\t0\t1.0\t2\t3\n").unwrap();
    let names = [
        ("text", "sent"),
        ("entity1_start", "b1"),
        ("entity1_end", "e1"),
        ("entity2_start", "b2"),
        ("entity2_end", "e2"),
    ];
    let columns: BTreeMap<_, _> =
        names.iter().map(|(ours, theirs)| ((*ours).to_owned(), (*theirs).to_owned())).collect();
    let options = ReadOptions { columns, ..ReadOptions::default() };
    let corpus = Corpus::read(CorpusKind::Table, std::slice::from_ref(&path), &options).unwrap();
    assert_eq!(corpus.statistics()[0].pairs, 2);
    let fail = |ours: &str, theirs: &str| {
        let mut options = options.clone();
        options.columns.insert(ours.into(), theirs.into());
        Corpus::read(CorpusKind::Table, std::slice::from_ref(&path), &options).unwrap_err().to_string()
    };
    assert!(fail("begin", "b1").starts_with("columns: `begin` is not a column of a table"));
    assert!(fail("id", "number").ends_with("a.tsv:1: no column `number`"));
}

#[test]
fn unusable_files() {
    let folder = tempfile::tempdir().unwrap();
    let refuse = |name: &str, content: &str| {
        std::fs::write(folder.path().join(name), content).unwrap();
        let error = read(CorpusKind::Table, folder.path().join(name)).expect_err("must be refused").to_string();
        error.replace(&format!("{}/", folder.path().display()), "")
    };
    let header = "text\tlabel\tentity1_start\tentity1_end\tentity2_start\tentity2_end\n";
    let row = |row: &str| refuse("a.tsv", &format!("{header}A b\tyes\t0\t1\t2\t3\n{row}\n"));
    assert_eq!(refuse("a.xlsx", "PK"), "a.xlsx: is not a table; its name must end in .tsv, .csv or .jsonl");
    assert!(refuse("a.tsv", "").starts_with("a.tsv:1: no column `text`"));
    assert!(
        refuse("a.tsv", "text\tlabel\tentity1_end\n")
            .starts_with("a.tsv:1: no column `entity1_start`; the columns are text, label, entity1_end")
    );
    assert!(
        refuse("a.tsv", "text\tlabel\nA b\tyes\nA b\tno\n")
            .starts_with("a.tsv:2: there are no offsets, and the text has no tag")
    );
    assert!(refuse("a.tsv", &format!("text\t{header}")).starts_with("a.tsv:1: column `text` appears twice"));
    assert_eq!(refuse("a.tsv", header), "a.tsv: has no rows");
    assert!(row("A b\tno").starts_with("a.tsv:3: has 2 columns where the header has 6"));
    assert_eq!(row("A b\tno\tx\t1\t2\t3"), "a.tsv:3: column `entity1_start`: `x` is not a whole number");
    assert_eq!(row("A b\tno\t-1\t1\t2\t3"), "a.tsv:3: column `entity1_start`: `-1` is not a whole number");
    assert_eq!(row("A b\t\t0\t1\t2\t3"), "a.tsv:3: column `label` is missing or empty");
    assert_eq!(row("A b\tno\t0\t1\t2\t4"), "a.tsv:3: entity2_end 4 is outside of the text, which has 3 characters");
    let object = r#"{"text": "A b", "label": "yes", "entity1_start": 0, "entity1_end": 1, "entity2_start": 2, "entity2_end": 3}"#;
    let line = |line: &str| refuse("a.jsonl", &format!("{object}\n\n{line}\n"));
    assert!(line("{").starts_with("a.jsonl:3: is not valid JSON"));
    assert_eq!(line("[1]"), "a.jsonl:3: is not a JSON object");
    assert_eq!(line("{}"), "a.jsonl:3: column `text` is missing or empty");
    assert_eq!(line(&object.replace("\"A b\"", "[]")), "a.jsonl:3: `text` must be a string or a number");
    assert_eq!(line(&object.replace(": 3", ": 2.5")), "a.jsonl:3: column `entity2_end`: `2.5` is not a whole number");
}
