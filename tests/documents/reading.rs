//! Reading hand-written files of each format.

use std::io::Write;

use biorel::corpus::documents::{Argument, Document, DocumentFormat, list_inputs};

use super::{data, documents};

/// Type, text as the offsets have it, concepts, of each mention.
fn mentions(document: &Document) -> Vec<(String, String, String)> {
    let show = |mention: &biorel::corpus::documents::Mention| {
        let slices: Vec<&str> = mention.spans.iter().map(|&span| document.slice(span).unwrap()).collect();
        (mention.entity_type.clone(), slices.join("+"), mention.identifiers.join(" "))
    };
    document.mentions.iter().map(show).collect()
}

fn is(document: &Document, expected: &[(&str, &str, &str)]) {
    let found = mentions(document);
    let found: Vec<_> = found.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
    assert_eq!(found, expected, "{}", document.id);
}

fn findings(document: &Document) -> Vec<(&'static str, &str, &str)> {
    let shown = document.findings.iter();
    shown.map(|found| (found.kind.name(), found.id.as_str(), found.reason.as_str())).collect()
}

fn sentences(document: &Document) -> Vec<(usize, String, Vec<usize>)> {
    let (sentences, _) = document.sentences();
    sentences.into_iter().map(|one| (one.start, one.sentence.text, one.mentions)).collect()
}

fn concepts(document: &Document) -> Vec<(&str, [Argument; 2])> {
    document.relations.iter().map(|relation| (relation.relation_type.as_str(), relation.arguments.clone())).collect()
}

fn concept(name: &str) -> Argument {
    Argument::Concept(name.to_owned())
}

#[test]
fn pubtator() {
    let all = documents(&data("pubtator/edge_cases.txt"));
    assert_eq!(all.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["9000001", "9000002", "9000003", "9000004"]);
    is(
        &all[0],
        &[
            ("Chemical", "𝛼-Testol", "MESH:C000001"),
            ("Chemical", "Testol", "MESH:C000001"),
            ("Chemical", "𝛼-testol", "MESH:C000001"),
            ("Disease", "bradycardia", "MESH:D001919"),
            ("Chemical", "testol", "MESH:C000001"),
            ("Chemical", "placebol", ""),
            ("Chemical", "Placebol", ""),
            ("Disease", "headache and sleep loss", "MESH:D006261 MESH:D012893"),
            ("Disease", "headache", "MESH:D006261"),
        ],
    );
    let cid = |first, second| ("CID", [concept(first), concept(second)]);
    assert_eq!(
        concepts(&all[0]),
        [cid("MESH:C000001", "MESH:D001919"), cid("MESH:C000001", "MESH:D006261"), cid("MESH:C999999", "MESH:D001919")]
    );
    let found = sentences(&all[0]);
    assert_eq!(
        found.iter().map(|(start, text, inside)| (*start, text.as_str(), inside.as_slice())).collect::<Vec<_>>(),
        [
            (0, "𝛼-Testol lowers heart rate.", &[0][..]),
            (28, "Testol (𝛼-testol) caused bradycardia.", &[1, 2, 3]),
            (66, "In mice, e.g. BALB, testol and placebol did not.", &[4, 5]),
            (115, "Placebol caused headache and sleep loss.", &[6, 7, 8]),
        ]
    );
    is(&all[1], &[("Chemical", "Cafe\u{301}ine", "MESH:D002110")]);
    assert_eq!(sentences(&all[1])[1].1, "Nothing marked, | and \"quotes\" here.");
    assert_eq!((all[2].mentions.len(), sentences(&all[2]).len()), (0, 0));
    assert_eq!(all[3].passages.len(), 1);
    assert_eq!(all[3].relations[0].relation_type, "Association");
    assert_eq!((all[0].origin.line, all[3].origin.line), (1, 23));
}

#[test]
fn bioc_xml() {
    let all = documents(&data("bioc/edge_cases.xml"));
    assert_eq!(all.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["bx1", "bx2", "bx3"]);
    is(
        &all[0],
        &[
            ("Chemical", "Drug A", "MESH:C1"),
            ("Chemical", "<b>B</b>", "MESH:C2"),
            ("Chemical", "𝛽-testol", "MESH:C3"),
            ("Gene", "KIN1", "1001"),
            ("Gene", "ac-+tin", "1002"),
            ("Gene", "betatin", "1003"),
            ("Gene", "it", ""),
        ],
    );
    assert_eq!(
        concepts(&all[0]),
        [
            ("inhibits", [Argument::Mention(2), Argument::Mention(3)]),
            ("binds", [concept("MESH:C3"), concept("1002")]),
            ("binds", [Argument::Mention(6), Argument::Mention(5)]),
        ]
    );
    assert_eq!(
        findings(&all[0]),
        [
            ("skipped", "bx1.8", "an annotation without a location"),
            ("skipped", "bx1.R4", "a relation with more or fewer than two arguments"),
        ]
    );
    assert_eq!(sentences(&all[0])[1].1, "First, 𝛽-testol inhibits KIN1.");
    // Sentences of the file; offsets in UTF-16 code units.
    let reason = "offsets count UTF-16 code units; converted to characters";
    assert_eq!(findings(&all[1]), [("repaired", "bx2.offsets", reason)]);
    is(&all[1], &[("Chemical", "𝛾", ""), ("Gene", "FOX2", ""), ("Chemical", "DrugC", ""), ("Gene", "FOX2", "")]);
    let found = sentences(&all[1]);
    assert_eq!(found[0], (0, "𝛾-ray 𝛾 hurts FOX2.".into(), vec![0, 1]));
    assert_eq!(found[1], (20, "DrugC helps FOX2.".into(), vec![2, 3]));
    assert_eq!(all[1].passages[1].passage_type, "ABSTRACT");
    assert!(all[2].passages.is_empty());
}

#[test]
fn bioc_json() {
    let all = documents(&data("bioc/export.json"));
    assert_eq!(all.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["9000010", "9000011"]);
    is(
        &all[0],
        &[
            ("Chemical", "Testol", "MESH:C1"),
            ("Gene", "KIN1", "1001"),
            ("Chemical", "𝛽-testol", "MESH:C1"),
            ("Gene", "KIN1", "1001"),
            ("Gene", "KIN2", ""),
            ("Gene", "KIN2", "1002"),
        ],
    );
    assert_eq!(concepts(&all[0]), [("Bind", [concept("MESH:C1"), concept("1001")])]);
    assert!(all[1].mentions.is_empty() && all[1].passages.len() == 1);
}

#[test]
fn brat() {
    let all = documents(&data("brat"));
    assert_eq!(all.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["empty", "two", "one"]);
    assert!(all[0].mentions.is_empty());
    is(&all[1], &[("Drug", "DRGA", ""), ("Protein", "PGX\nstrongly", "")]);
    let reason = "offsets count a line end of two characters as one; the text is read with single ones";
    assert_eq!(findings(&all[1]), [("repaired", "two.text", reason)]);
    is(
        &all[2],
        &[
            ("Drug", "al\u{301}pha-+blockers", ""),
            ("Drug", "beta-blockers", ""),
            ("Protein", "PGX", "UniProt:P00001"),
            ("Cell", "𝛼-cells", ""),
            ("Protein", "PGX", ""),
            ("Protein", "QRS", ""),
        ],
    );
    let skipped: Vec<&str> = all[2].findings.iter().map(|finding| finding.reason.as_str()).collect();
    assert_eq!(
        skipped,
        [
            "an event; only relations of two mentions are read",
            "an equivalence",
            "an attribute",
            "a note",
            "a relation with an event as argument"
        ]
    );
    assert_eq!(all[2].relations.len(), 5);
    let texts: Vec<String> = sentences(&all[2]).into_iter().map(|(_, text, _)| text).collect();
    assert_eq!(
        texts,
        ["Ein Title", "Combined al\u{301}pha- and beta-blockers raise PGX.", "In 𝛼-cells, PGX\nlowers QRS."]
    );
}

#[test]
fn line_ends_byte_order_marks_gzip_and_byte_offsets() {
    let folder = tempfile::tempdir().unwrap();
    let plain = documents(&data("pubtator/edge_cases.txt"));
    let text = std::fs::read_to_string(data("pubtator/edge_cases.txt")).unwrap();
    let content = |documents: &[Document]| -> Vec<Document> {
        let bare = |one: &Document| Document { origin: Default::default(), ..one.clone() };
        documents.iter().map(bare).collect()
    };
    let changed = format!("\u{feff}{}", text.replace('\n', "\r\n"));
    std::fs::write(folder.path().join("a.pubtator"), &changed).unwrap();
    assert_eq!(content(&documents(&folder.path().join("a.pubtator"))), content(&plain));
    // Compressed in two members, as by `cat a.gz b.gz`; the first bytes decide, not the name.
    let mut compressed = Vec::new();
    for half in [&text.as_bytes()[..700], &text.as_bytes()[700..]] {
        let mut encoder = flate2::write::GzEncoder::new(&mut compressed, flate2::Compression::default());
        encoder.write_all(half).unwrap();
        encoder.finish().unwrap();
    }
    for name in ["b.txt.gz", "c.txt"] {
        std::fs::write(folder.path().join(name), &compressed).unwrap();
        assert_eq!(content(&documents(&folder.path().join(name))), content(&plain), "{name}");
    }
    // Truncated: the complete documents are read, and the rest is reported.
    std::fs::write(folder.path().join("d.txt.gz"), &compressed[..compressed.len() - 60]).unwrap();
    let truncated = super::read(&folder.path().join("d.txt.gz"));
    assert!(truncated[0].is_ok());
    let message = truncated.last().unwrap().as_ref().unwrap_err().to_string();
    assert!(message.contains("the compressed file is corrupt here"), "{message}");
    // Offsets in bytes.
    let bytes = "1|t|é𝛼 Testol.\n1|a|It ends.\n1\t7\t13\tTestol\tChemical\n";
    std::fs::write(folder.path().join("e.txt"), bytes).unwrap();
    let [document] = documents(&folder.path().join("e.txt")).try_into().unwrap();
    is(&document, &[("Chemical", "Testol", "")]);
    assert_eq!(findings(&document)[0].2, "offsets count UTF-8 bytes; converted to characters");
}

#[test]
fn names_decide_the_format_and_skipped_files_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.txt", "b.ann", "b.txt", "c.XML.gz", "d.json", "e.pdf", ".f.txt"] {
        std::fs::write(folder.path().join(name), "").unwrap();
    }
    let (inputs, skipped) = list_inputs(&[folder.path().to_owned()], None).unwrap();
    let found: Vec<(String, DocumentFormat)> =
        inputs.iter().map(|one| (one.path.file_name().unwrap().to_string_lossy().into_owned(), one.format)).collect();
    let expected = [
        ("a.txt", DocumentFormat::Pubtator),
        ("b.ann", DocumentFormat::Brat),
        ("c.XML.gz", DocumentFormat::BiocXml),
        ("d.json", DocumentFormat::BiocJson),
    ];
    assert_eq!(found, expected.map(|(name, format)| (name.to_owned(), format)));
    assert_eq!(skipped.len(), 1);
    let (inputs, skipped) = list_inputs(&[folder.path().to_owned()], Some(DocumentFormat::Brat)).unwrap();
    assert_eq!((inputs.len(), skipped.len()), (1, 4));
    let error = list_inputs(&[folder.path().join("e.pdf")], None).unwrap_err().to_string();
    assert!(error.contains("is not clear from its name"), "{error}");
    assert_eq!(list_inputs(&[folder.path().join("e.pdf")], Some(DocumentFormat::BiocXml)).unwrap().0.len(), 1);
    assert_eq!(
        list_inputs(&[folder.path().join("b.txt")], Some(DocumentFormat::Brat)).unwrap().0[0].path,
        folder.path().join("b.ann")
    );
    assert!(list_inputs(&[folder.path().join("gone")], None).is_err());
    assert!(list_inputs(&[], None).is_err());
}
