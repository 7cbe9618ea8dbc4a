//! Documents that are written and read again are the same, with the added relations.

use biorel::corpus::Span;
use biorel::corpus::documents::{
    Argument, Document, DocumentFormat, Mention, Passage, Predicted, Relation, relation_lines, write_collection,
    write_document,
};
use proptest::prelude::*;

use super::{data, documents};

/// Without its origin.
fn bare(document: &Document) -> Document {
    Document { origin: Default::default(), ..document.clone() }
}

/// Written and read again.
fn again(
    documents_in: &[Document],
    format: DocumentFormat,
    predicted: impl Fn(&Document) -> Vec<Predicted<'static>>,
) -> Vec<Document> {
    let folder = tempfile::tempdir().unwrap();
    let text = |one: &Document| write_document(one, &predicted(one), format).unwrap();
    if format == DocumentFormat::Brat {
        for one in documents_in {
            std::fs::write(folder.path().join(format!("{}.ann", one.id)), text(one)).unwrap();
            std::fs::write(folder.path().join(format!("{}.txt", one.id)), one.text()).unwrap();
        }
    } else {
        let texts: Vec<String> = documents_in.iter().map(text).collect();
        let header = documents_in.first().map_or("", |one| one.origin.header.as_str());
        let name = format!("all.{}", format.extension());
        std::fs::write(folder.path().join(name), write_collection(format, header, &texts)).unwrap();
    }
    documents(folder.path())
}

const HAND_WRITTEN: [(&str, DocumentFormat); 7] = [
    ("pubtator/edge_cases.txt", DocumentFormat::Pubtator),
    ("bioc/edge_cases.xml", DocumentFormat::BiocXml),
    ("bioc/export.json", DocumentFormat::BiocJson),
    ("brat/train", DocumentFormat::Brat),
    ("brat/test", DocumentFormat::Brat),
    ("prodigy/train.jsonl", DocumentFormat::Prodigy),
    ("bigbio/train.jsonl", DocumentFormat::Bigbio),
];

#[test]
fn every_hand_written_file_comes_back_unchanged() {
    for (file, format) in HAND_WRITTEN {
        let read = documents(&data(file));
        let back = again(&read, format, |_| vec![]);
        for (one, other) in read.iter().zip(&back) {
            // A CRLF that was counted as one character is one after writing.
            let unchanged = |document: &Document| {
                let mut document = bare(document);
                document.findings.retain(|finding| !finding.reason.contains("line end"));
                document
            };
            assert_eq!(unchanged(one), unchanged(other), "{file}");
        }
        assert_eq!(read.len(), back.len());
        // The bytes of each document are those of the file, apart from white space at the end.
        for (one, other) in read.iter().zip(&back) {
            let raw = |document: &Document| document.origin.raw.as_ref().unwrap().1.trim_end().to_owned();
            assert_eq!(raw(one), raw(other), "{file}");
        }
    }
}

#[test]
fn a_relation_of_an_ambiguous_annotation_is_not_added() {
    for (name, file, format) in [
        ("a.xml", "bioc/edge_cases.xml", DocumentFormat::BiocXml),
        ("a.json", "bioc/export.json", DocumentFormat::BiocJson),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let text = std::fs::read_to_string(data(file)).unwrap();
        let (from, to) = match format {
            DocumentFormat::BiocXml => ("<annotation id=\"2\"", "<annotation id=\"1\""),
            _ => ("\"id\": \"2\"", "\"id\": \"1\""),
        };
        assert!(text.contains(from), "{file}");
        std::fs::write(folder.path().join(name), text.replacen(from, to, 1)).unwrap();
        let read: Vec<Document> = super::read(&folder.path().join(name)).into_iter().flatten().collect();
        let one = read.iter().find(|one| one.mentions.iter().filter(|mention| mention.id == "1").count() == 2).unwrap();
        let predicted = Predicted { label: "new", mentions: [0, 1], concepts: None, probability: 0.5, model: "m@1" };
        let message = write_document(one, &[predicted], format).unwrap_err().to_string();
        assert!(
            message.ends_with("two annotations have the identifier 1: a relation cannot name one of them"),
            "{message}"
        );
        assert!(write_document(one, &[], format).is_ok());
    }
}

#[test]
fn returns_at_the_end_of_a_pubtator_document_stay() {
    let folder = tempfile::tempdir().unwrap();
    for (content, title) in [
        ("1|t|A", "A"),
        ("1|t|A\r", "A"),
        ("1|t|A\r\r", "A\r"),
        ("1|t|A\r\n", "A"),
        ("1|t|A\r\r\n", "A\r"),
        ("1|t|A\r\r\r\n\n", "A\r\r"),
        ("1|t|A\r\n1|a|B\r\r", "A B\r"),
    ] {
        let path = folder.path().join("all.txt");
        std::fs::write(&path, content).unwrap();
        let read = documents(&path);
        assert_eq!(read[0].text(), title, "{content:?}");
        assert_eq!(again(&read, DocumentFormat::Pubtator, |_| vec![])[0].text(), title, "{content:?}");
    }
}

#[test]
fn the_header_of_a_collection_stays() {
    for (file, format, part) in [
        ("bioc/edge_cases.xml", DocumentFormat::BiocXml, "<key>odd.key</key><infon key=\"of\">tests</infon>"),
        ("bioc/edge_cases.xml", DocumentFormat::BiocXml, "<!DOCTYPE collection SYSTEM \"BioC.dtd\">"),
    ] {
        let read = documents(&data(file));
        let text = write_collection(format, &read[0].origin.header, &[]);
        assert!(text.contains(part), "{text}");
    }
    let text = write_collection(DocumentFormat::BiocJson, "{\"source\": \"x\", \"documents\": ", &["{}".into()]);
    assert_eq!(text, "{\"source\": \"x\", \"documents\": [\n{}\n]}\n");
}

#[test]
fn added_relations_are_read_back() {
    for (file, format) in HAND_WRITTEN {
        let read = documents(&data(file));
        let add = |document: &Document| match document.mentions.len() {
            0 | 1 => vec![],
            last => vec![Predicted {
                label: "new",
                mentions: [0, last - 1],
                concepts: None,
                probability: 0.875,
                model: "m@12",
            }],
        };
        for (one, other) in read.iter().zip(again(&read, format, add)) {
            let added = &other.relations[one.relations.len()..];
            assert_eq!(one.mentions, other.mentions, "{file}");
            if one.mentions.len() < 2 {
                assert!(added.is_empty(), "{file}");
                continue;
            }
            let expected = add(one).len() * if format == DocumentFormat::Pubtator { concept_pairs(one) } else { 1 };
            assert_eq!(added.len(), expected, "{file}: {added:?}");
            if let (Some(new), false) = (added.first(), format == DocumentFormat::Pubtator) {
                let last = one.mentions.len() - 1;
                assert_eq!(new.arguments, [Argument::Mention(0), Argument::Mention(last)]);
                assert_eq!(new.relation_type, "new");
            }
        }
    }
}

/// Pairs of concepts of the first and the last mention.
fn concept_pairs(document: &Document) -> usize {
    let count = |mention: &Mention| mention.identifiers.len().max(1);
    count(&document.mentions[0]) * count(&document.mentions[document.mentions.len() - 1])
}

#[test]
fn there_is_one_line_for_each_relation_of_two_concepts() {
    let document = &documents(&data("pubtator/edge_cases.txt"))[0];
    let one = |mentions, probability| Predicted { label: "CID", mentions, concepts: None, probability, model: "m@12" };
    let lines = relation_lines(document, &[one([1, 3], 0.5), one([2, 3], 0.75), one([6, 7], 0.625)], "\n");
    assert_eq!(
        lines,
        "9000001\tCID\t@115-123\tMESH:D006261\t0.6250\tm@12\n9000001\tCID\t@115-123\tMESH:D012893\t0.6250\tm@12\n\
         9000001\tCID\tMESH:C000001\tMESH:D001919\t0.7500\tm@12\n"
    );
}

prop_compose! {
    /// A document with two passages, mentions with one or two segments, and relations.
    fn any_document()(
        title in "[A-Za-z.&<>\"'β𝛼\u{301} ]{1,30}",
        body in "[A-Za-z.?&<>\"'β𝛼\u{301}|]{1,20}[A-Za-z. \u{202e}\u{5d0}]{0,30}",
        gap in 1_usize..4,
        positions in proptest::collection::vec((any::<bool>(), 0_usize..50, 1_usize..8, 0_usize..6, "[A-Z][a-z]{0,5}", "[A-Z]{0,2}"), 0..6),
        pairs in proptest::collection::vec((0_usize..6, 0_usize..6, "[a-z]{1,6}"), 0..4),
    ) -> Document {
        let start = title.chars().count() + gap;
        let texts = [(0, title), (start, body)];
        let passage = |(number, (start, text)): (usize, &(usize, String))| {
            let passage_type = ["title", "abstract"][number].to_owned();
            Passage { passage_type, start: *start, text: text.clone(), sentence: false }
        };
        let passages: Vec<Passage> = texts.iter().enumerate().map(passage).collect();
        let mut mentions = Vec::new();
        let mut positions = positions;
        // BioC lists them passage by passage.
        positions.sort_by_key(|place| place.0);
        for (second, at, size, more, entity_type, concept) in positions {
            let (start, text) = &texts[usize::from(second)];
            let length = text.chars().count();
            let from = at % length;
            let to = (from + size).min(length);
            let mut spans = vec![Span::new(start + from, start + to)];
            if more > 1 && to + more < length {
                spans.push(Span::new(start + to + 1, start + to + more));
            }
            // Mentions start and end without white space, as annotated entities do.
            let without_outer_spaces = |span: &Span| {
                let text: String = text.chars().skip(span.start - start).take(span.len()).collect();
                !text.starts_with(char::is_whitespace) && !text.ends_with(char::is_whitespace)
            };
            if spans.iter().all(without_outer_spaces) {
                let identifiers = if concept.is_empty() { vec![] } else { vec![concept] };
                let id = format!("T{}", mentions.len() + 1);
                mentions.push(Mention { id, entity_type, text: String::new(), identifiers, spans, passage: None });
            }
        }
        let mut relations = Vec::new();
        for (first, second, relation_type) in pairs {
            if first < mentions.len() && second < mentions.len() {
                let arguments = [Argument::Mention(first), Argument::Mention(second)];
                relations.push(Relation::new(format!("R{}", relations.len() + 1), relation_type, arguments));
            }
        }
        Document::new("d1".into(), passages, mentions, relations).unwrap()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn any_document_comes_back_from_bioc(document in any_document()) {
        for format in [DocumentFormat::BiocJson, DocumentFormat::BiocXml] {
            let back = again(std::slice::from_ref(&document), format, |_| vec![]);
            prop_assert_eq!(back.len(), 1);
            prop_assert_eq!(bare(&back[0]), bare(&document), "{}", format);
        }
    }

    /// Prodigy and Label Studio have one span for each mention, and no concepts.
    #[test]
    fn any_document_comes_back_from_exports(document in any_document()) {
        let relations = |document: &Document| -> Vec<(String, [Argument; 2])> {
            document.relations.iter().map(|r| (r.relation_type.clone(), r.arguments.clone())).collect()
        };
        let bounds = |document: &Document| -> Vec<(String, Span)> {
            document.mentions.iter().map(|m| (m.entity_type.clone(), m.bounding_span())).collect()
        };
        // An example's spans are sets: the same span with the same label is one there.
        let bounds_of = bounds(&document);
        let distinct: std::collections::HashSet<&(String, Span)> = bounds_of.iter().collect();
        for format in [DocumentFormat::Prodigy, DocumentFormat::LabelStudio, DocumentFormat::Bigbio] {
            if format == DocumentFormat::Prodigy && distinct.len() < bounds_of.len() {
                continue;
            }
            let [back] = again(std::slice::from_ref(&document), format, |_| vec![]).try_into().unwrap();
            prop_assert_eq!(back.text(), document.text(), "{}", format);
            prop_assert_eq!(bounds(&back), bounds(&document), "{}", format);
            prop_assert_eq!(relations(&back), relations(&document), "{}", format);
        }
    }

    #[test]
    fn any_document_comes_back_from_brat_and_pubtator_as_far_as_they_can_represent_it(document in any_document()) {
        let [back] = again(std::slice::from_ref(&document), DocumentFormat::Brat, |_| vec![]).try_into().unwrap();
        prop_assert_eq!(back.text(), document.text());
        let positions = |document: &Document| -> Vec<(String, Vec<Span>, Vec<String>)> {
            document.mentions.iter().map(|m| (m.entity_type.clone(), m.spans.clone(), m.identifiers.clone())).collect()
        };
        prop_assert_eq!(positions(&back), positions(&document));
        let relations = |document: &Document| -> Vec<(String, [Argument; 2])> {
            document.relations.iter().map(|r| (r.relation_type.clone(), r.arguments.clone())).collect()
        };
        prop_assert_eq!(relations(&back), relations(&document));
        // In PubTator's format each mention is one span, and the abstract starts one character after the title.
        let [back] = again(std::slice::from_ref(&document), DocumentFormat::Pubtator, |_| vec![]).try_into().unwrap();
        let texts = |document: &Document| -> Vec<(String, String)> {
            document.mentions.iter().map(|m| (m.entity_type.clone(), document.slice(m.bounding_span()).unwrap_or_default().to_owned())).collect()
        };
        prop_assert_eq!(texts(&back), texts(&document));
    }
}
