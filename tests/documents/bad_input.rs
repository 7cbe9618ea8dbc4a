//! An unreadable document is refused with file, line and reason, and the next one is read.

use biorel::corpus::documents::Document;
use proptest::prelude::*;

use super::{data, documents, read};

/// The messages of the documents of one file with this content, without the folder; empty for a
/// valid document.
fn messages(name: &str, content: impl AsRef<[u8]>) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(name), content).unwrap();
    let message = |found: biorel::Result<Document>| match found {
        Ok(_) => String::new(),
        Err(error) => error.to_string().replace(&format!("{}/", folder.path().display()), ""),
    };
    read(&folder.path().join(name)).into_iter().map(message).collect()
}

/// The hand-written file with one change: the message of the one document that is invalid.
fn changed(file: &str, name: &str, from: &str, to: &str) -> String {
    let good = std::fs::read_to_string(data(file)).unwrap();
    assert!(good.contains(from), "{from}");
    let count = documents(&data(file)).len();
    let found = messages(name, good.replacen(from, to, 1));
    assert_eq!(found.len(), count, "{found:?}");
    let bad: Vec<&String> = found.iter().filter(|message| !message.is_empty()).collect();
    assert_eq!(bad.len(), 1, "one document is invalid, and the others are read: {found:?}");
    bad[0].clone()
}

fn starts(message: &str, expected: &str) {
    assert!(message.starts_with(expected), "`{expected}` does not start: {message}");
}

#[test]
fn pubtator() {
    let change = |from, to| changed("pubtator/edge_cases.txt", "a.txt", from, to);
    starts(
        &change("\t53\t64\tbrady", "\t54\t65\tbrady"),
        "a.txt:6: document 9000001: a mention has offsets 54-65, which is `radycardia.`, but its text is `bradycardia`",
    );
    starts(
        &change("\t53\t64\tbrady", "\t53\t640\tbrady"),
        "a.txt:6: document 9000001: a mention has offsets 53-640, which is not a range",
    );
    starts(
        &change("9000001\t53", "9000007\t53"),
        "a.txt:6: the line is of document `9000007`, in the middle of document 9000001",
    );
    starts(&change("\t53\t64\t", "\t53\t"), "a.txt:6: is neither a title");
    for start in ["x53", "53.0", "-53", "1e3"] {
        let to = format!("\t{start}\t64\tbrady");
        starts(
            &changed("pubtator/edge_cases.txt", "a.txt", "\t53\t64\tbrady", &to),
            &format!("a.txt:6: document 9000001: the mention `bradycardia` starts at `{start}`, which is not a whole"),
        );
    }
    starts(&change("9000002|a|Nothing", "9000002|b|Nothing"), "a.txt:17: is neither a title");
    starts(&change("9000004|t|Only", "9000004|a|Only"), "a.txt:23: document `9000004` has no title");
    starts(&change("9000003|t|\n9000003|a|", "|t|\n|a|"), "a.txt:20: the document has no identifier");
    starts(
        &change("9000002|a|Nothing", "9000002|a|x\n9000002|a|Nothing"),
        "a.txt:18: document 9000002 has a second abstract",
    );
    // A relation of two genes by number, with its novelty, is no mention.
    let found = messages("a.txt", b"1|t|A 7157\n1|a|\n1\tAssociation\t7157\t672\tNovel\n");
    assert_eq!(found, [String::new()]);
    // Found by the fuzzer: a title without an abstract ends the text.
    let found = messages("a.txt", b"1|t|An asthma\n1\t3\t10\tasthma\tDisease\n");
    starts(&found[0], "a.txt:2: document 1: a mention has offsets 3-10, which is not a range");
    let found = messages("a.txt", b"1|t|A\n1|a|\xff\xfe\n\n2|t|B\n2|a|C\n");
    assert_eq!(found, ["a.txt:2: is not UTF-8; convert the file to UTF-8 first".to_owned(), String::new()]);
}

#[test]
fn bioc_xml() {
    let change = |from, to| changed("bioc/edge_cases.xml", "a.xml", from, to);
    starts(
        &change("offset=\"49\"", "offset=\"50\""),
        "a.xml:6: document bx1: annotation 4 has offsets 50-54, which is `IN1.`, but its text is `KIN1`",
    );
    starts(
        &change("offset=\"49\"", "offset=\"2\""),
        "a.xml:6: document bx1: annotation 4 has offsets 2-6, which is before its passage, which starts at 24",
    );
    starts(&change("length=\"4\"", "length=\"four\""), "a.xml:6: document bx1: annotation 4: a <location> has no");
    starts(&change("<offset>24</offset>", ""), "a.xml:6: document bx1: a <passage> has no <offset>");
    starts(
        &change("<offset>24</offset>", "<offset>99999999999999999999</offset>"),
        "a.xml:6: document bx1: a <passage> has no <offset>",
    );
    starts(&change("<id>bx3</id>", ""), "a.xml:11: the <document> has no <id>");
    starts(&change("refid=\"7\"", "refid=\"77\""), "a.xml:8: document bx1: relation R3 names 77, which does not exist");
    starts(&change("<infon key=\"type\">three</infon>", ""), "a.xml:9: document bx1: relation R4 has no infon `type`");
    starts(&change("<id>bx3</id>", "<id>bx3</id></passage>"), "a.xml:11: is not well-formed XML");
    starts(&change("<id>bx3</id>", "<id>bx3&evil;</id>"), "a.xml:11: refers to the entity `&evil;`");
    let found = messages("a.xml", "<html/>");
    starts(&found[0], "a.xml:1: there is no <document>");
}

#[test]
fn bioc_json() {
    let change = |from, to| changed("bioc/export.json", "a.json", from, to);
    starts(
        &change("\"offset\": 11,", "\"offset\": 12,"),
        "a.json:3: document 9000010: annotation 2 has offsets 12-16, which is `IN1.`",
    );
    starts(
        &change("\"offset\": 11,", "\"offset\": -1,"),
        "a.json:3: document 9000010: annotation 2: a location has no",
    );
    starts(
        &change("\"length\": 4", "\"length\": 18446744073709551615"),
        "a.json:3: document 9000010: annotation 2 has offsets",
    );
    starts(
        &change("\"offset\": 17,", "\"offset\": 18446744073709551615,"),
        "a.json:3: document 9000010: a passage cannot have the offset 18446744073709551615",
    );
    starts(&change("\"passages\"", "\"pasages\""), "a.json:3: document 9000010: it has no list of `passages`");
    starts(&change("\"novel\": \"Novel\"", "\"novel\": Novel"), "a.json:");
    starts(
        &messages("a.json", "{\"documents\": [{\"passages\": []}]}")[0],
        "a.json:1: is not a BioC document: it has no `id`",
    );
}

#[test]
fn brat() {
    for (from, to, message) in [
        (
            "T3\tProtein 52 55",
            "T3\tProtein 52 56",
            "one.ann:3: T3 has offsets 52-56, which is `PGX.`, but its text is `PGX`",
        ),
        ("T3\tProtein 52 55", "T3\tProtein 52-55", "one.ann:3: T3: `Protein 52-55` is not `Type start end`"),
        ("20 27;37 45", "20 27;24 45", "one.ann:1: T1 has offsets 20-27;24-45, which is not a range"),
        ("T3\tProtein", "T2\tProtein", "one.ann:3: T2 appears twice"),
        ("Arg1:T1 ", "Arg1:T9 ", "one.ann:7: R1 names T9, which is not in the file"),
        ("Arg1:T1 ", "", "one.ann:7: R1: `Raises Arg2:T3` is not `Type Arg1:T1 Arg2:T2`"),
        ("Arg1:T1 ", "T1 ", "one.ann:7: R1: `T1` is not `Role:T1`"),
        ("A1\tNegation", "X1\tNegation", "one.ann:14: `X1` is not an identifier"),
        ("A1\tNegation", "A1 Negation", "one.ann:14: has no tab"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let good = std::fs::read_to_string(data("brat/train/one.ann")).unwrap();
        assert!(good.contains(from), "{from}");
        std::fs::copy(data("brat/train/one.txt"), folder.path().join("one.txt")).unwrap();
        std::fs::write(folder.path().join("one.ann"), good.replacen(from, to, 1)).unwrap();
        let error = read(folder.path()).remove(0).unwrap_err().to_string();
        starts(&error.replace(&format!("{}/", folder.path().display()), ""), message);
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.ann"), "").unwrap();
    assert!(read(folder.path()).remove(0).unwrap_err().to_string().contains("a.txt is missing"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn a_corrupt_file_is_an_error_and_never_a_panic(at in 0.0..1.0_f64, byte in any::<u8>(), cut in any::<bool>(), which in 0_usize..3) {
        let (file, name) = [("pubtator/edge_cases.txt", "a.txt"), ("bioc/edge_cases.xml", "a.xml"), ("bioc/export.json", "a.json")][which];
        let mut content = std::fs::read(data(file)).unwrap();
        let position = ((content.len() - 1) as f64 * at) as usize;
        if cut { content.truncate(position) } else { content[position] = byte }
        for message in messages(name, &content) {
            prop_assert!(message.is_empty() || message.starts_with(name), "{}", message);
        }
    }
}
