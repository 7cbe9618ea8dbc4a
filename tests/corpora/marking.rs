//! The markings, with overlapping, nested and discontinuous mentions, and the guarantees of
//! `copied`.

use biorel::corpus::{Entity, Pair, Sentence, Span, Task};
use biorel::encode::{Instance, Marking, instances, mark, mark_arguments};
use proptest::prelude::*;

/// A type with the segments of a mention.
type Argument<'a> = (&'a str, &'a [(usize, usize)]);

/// A sentence with one pair, from segments of each argument given as (start, end).
fn sentence(text: &str, arguments: [Argument; 2]) -> Sentence {
    let entity = |(number, (entity_type, segments)): (usize, Argument)| Entity {
        id: format!("e{number}"),
        entity_type: entity_type.to_owned(),
        text: String::new(),
        spans: segments.iter().map(|&(start, end)| Span::new(start, end)).collect(),
    };
    Sentence {
        id: "s".into(),
        document: "d".into(),
        text: text.to_owned(),
        entities: arguments.into_iter().enumerate().map(entity).collect(),
        pairs: vec![Pair { id: "p".into(), entity1: 0, entity2: 1, label: 1, row: None, concepts: None }],
    }
}

fn marked(sentence: &Sentence, task: &Task, marking: Marking) -> Instance {
    mark(sentence, &sentence.pairs[0], task, marking).unwrap_or_else(|error| panic!("{error}"))
}

/// The three texts in which a pair is marked, in the order typed, blue, markers.
fn texts(sentence: &Sentence, task: &Task) -> [String; 3] {
    [Marking::Typed, Marking::Blue, Marking::Markers].map(|marking| marked(sentence, task, marking).text)
}

fn slice(text: &str, span: Span) -> String {
    text.chars().skip(span.start).take(span.len()).collect()
}

/// The guarantees of `copied`: sorted, disjoint, inside both texts, and equal character by
/// character (apart from BLUE's ASCII for ChemProt).
pub(super) fn check_copied(instance: &Instance, original: &str, exact: bool) {
    let marked: Vec<char> = instance.text.chars().collect();
    let original: Vec<char> = original.chars().collect();
    let (mut from_marked, mut from_original) = (0, 0);
    for copied in &instance.copied {
        assert!(copied.length > 0 && copied.marked >= from_marked && copied.original >= from_original, "{instance:?}");
        let ours = &marked[copied.marked..copied.marked + copied.length];
        let theirs = &original[copied.original..copied.original + copied.length];
        if exact {
            assert_eq!(ours, theirs, "{instance:?}");
        } else {
            let changed = |(a, b): (&char, &char)| a != b && b.is_ascii();
            assert!(!ours.iter().zip(theirs).any(changed), "{instance:?}");
        }
        from_marked = copied.marked + copied.length;
        from_original = copied.original + copied.length;
    }
    for entity in instance.entities {
        assert!(entity.start < entity.end && entity.end <= marked.len(), "{instance:?}");
    }
}

#[test]
fn names_come_back_from_text() {
    for marking in Marking::ALL {
        assert_eq!(marking.to_string().parse::<Marking>().unwrap(), marking);
    }
    let error = "anonymised".parse::<Marking>().unwrap_err().to_string();
    assert_eq!(
        error,
        "marking: `anonymised` is unknown; choose one of typed, blue, markers, levitated, levitated-visible"
    );
}

#[test]
fn separate_mentions() {
    let s = sentence(" Aspirin inhibits COX-2. ", [("CHEMICAL", &[(1, 8)]), ("GENE-Y", &[(18, 23)])]);
    assert_eq!(
        texts(&s, &Task::chemprot()),
        [
            " @CHEMICAL$ inhibits @GENE$. ",
            "@CHEMICAL$ inhibits @GENE$.",
            " [E1] Aspirin [/E1] inhibits [E2] COX-2 [/E2]. "
        ]
    );
    let instance = marked(&s, &Task::chemprot(), Marking::Typed);
    assert_eq!(instance.mentions, ["Aspirin", "COX-2"]);
    assert_eq!(instance.entities.map(|span| slice(&instance.text, span)), ["@CHEMICAL$", "@GENE$"]);
    assert_eq!((instance.id.as_str(), instance.label), ("p", Some(1)));
    let markers = marked(&s, &Task::chemprot(), Marking::Markers);
    assert_eq!(markers.entities.map(|span| slice(&markers.text, span)), ["[E1] Aspirin [/E1]", "[E2] COX-2 [/E2]"]);
}

#[test]
fn tags_follow_the_argument_except_in_chemprot_of_blue() {
    let s = sentence("COX-2 and aspirin", [("CHEMICAL", &[(10, 17)]), ("GENE-Y", &[(0, 5)])]);
    assert_eq!(
        texts(&s, &Task::chemprot()),
        ["@GENE$ and @CHEMICAL$", "@CHEMICAL$ and @GENE$", "[E2] COX-2 [/E2] and [E1] aspirin [/E1]"]
    );
    // The entities stay in the order of the arguments, whatever the tags.
    for marking in Marking::ALL {
        let instance = marked(&s, &Task::chemprot(), marking);
        assert!(instance.entities[0].start > instance.entities[1].start);
        assert_eq!(instance.mentions, ["aspirin", "COX-2"]);
    }
}

#[test]
fn nested_mentions_share_one_tag() {
    let s = sentence("the cyclin E kinase binds", [("protein", &[(4, 12)]), ("protein", &[(4, 19)])]);
    assert_eq!(
        texts(&s, &Task::ppi()),
        [
            "the @PROTEIN-PROTEIN$ binds",
            "the @PROTEIN-PROTEIN$ binds",
            "the [E2] [E1] cyclin E [/E1] kinase [/E2] binds"
        ]
    );
    let typed = marked(&s, &Task::ppi(), Marking::Typed);
    assert_eq!(typed.entities[0], typed.entities[1]);
    let s = sentence("the cyclin E kinase binds", [("protein", &[(4, 19)]), ("protein", &[(13, 19)])]);
    assert_eq!(texts(&s, &Task::ppi())[2], "the [E1] cyclin E [E2] kinase [/E2] [/E1] binds");
}

#[test]
fn crossing_and_equal_mentions() {
    let s = sentence("abcdef", [("CHEMICAL", &[(2, 5)]), ("GENE-N", &[(1, 3)])]);
    assert_eq!(texts(&s, &Task::chemprot()), ["a@CHEMICAL-GENE$f", "a@CHEM-GENE$f", "a[E2] b[E1] c [/E2]de [/E1]f"]);
    let s = sentence("abc", [("CHEMICAL", &[(0, 3)]), ("GENE-N", &[(0, 3)])]);
    assert_eq!(texts(&s, &Task::chemprot())[2], "[E1] [E2] abc [/E2] [/E1]");
}

#[test]
fn adjacent_mentions_are_merged_only_by_blue() {
    let s = sentence("aspirinCOX", [("drug", &[(0, 7)]), ("brand", &[(7, 10)])]);
    assert_eq!(texts(&s, &Task::ddi()), ["@DRUG$@DRUG$", "@DRUG-DRUG$", "[E1] aspirin [/E1][E2] COX [/E2]"]);
}

#[test]
fn discontinuous_mentions_are_marked_from_first_to_last_character() {
    let text = "alpha- and beta-blockers with digoxin";
    let s = sentence(text, [("group", &[(0, 6), (16, 24)]), ("drug", &[(30, 37)])]);
    assert_eq!(
        texts(&s, &Task::ddi()),
        ["@DRUG$ with @DRUG$", "@DRUG$ with @DRUG$", "[E1] alpha- and beta-blockers [/E1] with [E2] digoxin [/E2]"]
    );
    // Two mentions that share their head overlap.
    let s = sentence(text, [("group", &[(0, 6), (16, 24)]), ("group", &[(11, 24)])]);
    assert_eq!(
        texts(&s, &Task::ddi()),
        [
            "@DRUG-DRUG$ with digoxin",
            "@DRUG-DRUG$ with digoxin",
            "[E1] alpha- and [E2] beta-blockers [/E2] [/E1] with digoxin"
        ]
    );
}

#[test]
fn chemprot_of_blue_is_ascii() {
    let text = "β-carotene\u{a0}± θ with α TNF-α";
    let s = sentence(text, [("CHEMICAL", &[(0, 10)]), ("GENE-Y", &[(22, 27)])]);
    let instance = marked(&s, &Task::chemprot(), Marking::Blue);
    assert_eq!(instance.text, "@CHEMICAL$ + th with a @GENE$");
    check_copied(&instance, &s.text, false);
    // `th` stands for one character: it is in no range, and what follows is still mapped correctly.
    let at = instance.copied.iter().find(|copied| copied.original == 14).expect("a range after theta");
    assert_eq!(slice(&instance.text, Span::new(at.marked, at.marked + 5)), " with");
    assert_eq!(marked(&s, &Task::chemprot(), Marking::Typed).text, "@CHEMICAL$\u{a0}± θ with α @GENE$");
    // Other tasks keep their characters.
    let s = sentence("β and a drug α", [("drug", &[(0, 1)]), ("drug", &[(8, 12)])]);
    assert_eq!(marked(&s, &Task::ddi(), Marking::Blue).text, "@DRUG$ and a @DRUG$ α");
}

#[test]
fn entities_that_do_not_fit_are_errors() {
    let s = sentence("abc", [("drug", &[(0, 1)]), ("drug", &[(2, 9)])]);
    for marking in Marking::ALL {
        let error = mark(&s, &s.pairs[0], &Task::ddi(), marking).unwrap_err().to_string();
        assert_eq!(error, "sentence s: pair p: entity 1 does not exist or its offsets do not fit the text");
        assert!(mark_arguments(&s, (0, 7), "q", None, &Task::ddi(), marking).is_err());
    }
    let empty = sentence("abc", [("drug", &[(0, 1)]), ("drug", &[])]);
    assert!(instances(&[empty], &Task::ddi(), Marking::Typed).is_err());
}

/// Any text with two spans in it, as (start, end).
fn cases() -> impl Strategy<Value = (String, [(usize, usize); 2])> {
    let text =
        proptest::collection::vec(prop_oneof![Just(' '), Just('a'), Just('θ'), Just('β'), Just('𝛼'), Just('$')], 1..24);
    text.prop_flat_map(|characters| {
        let length = characters.len();
        let span = move || (0..length).prop_flat_map(move |start| (Just(start), start + 1..=length));
        (Just(characters.into_iter().collect::<String>()), [span(), span()])
    })
}

proptest! {
    #[test]
    fn copied_maps_every_character_that_is_not_marked((text, spans) in cases()) {
        let s = sentence(&text, [("CHEMICAL", &[spans[0]]), ("GENE-Y", &[spans[1]])]);
        for task in [Task::chemprot(), Task::ppi()] {
            for marking in Marking::ALL {
                if marking.is_levitated() && task.type_number("CHEMICAL").is_none() {
                    prop_assert!(mark(&s, &s.pairs[0], &task, marking).is_err());
                    continue;
                }
                let instance = marked(&s, &task, marking);
                let romanised = marking == Marking::Blue && task.name == "chemprot";
                check_copied(&instance, &text, !romanised);
                // The sentence without the mentions is copied, and nothing else.
                let covered: Vec<usize> =
                    instance.copied.iter().flat_map(|c| c.original..c.original + c.length).collect();
                let inside = |at: usize| spans.iter().any(|&(start, end)| start <= at && at < end);
                let expected: Vec<usize> = match marking {
                    Marking::Typed | Marking::Levitated => {
                        (0..text.chars().count()).filter(|&at| !inside(at)).collect()
                    }
                    Marking::Markers | Marking::LevitatedVisible => (0..text.chars().count()).collect(),
                    Marking::Blue => continue,
                };
                prop_assert_eq!(&covered, &expected);
                // Without what was inserted, the text is the rest of the sentence.
                let at: std::collections::HashSet<usize> =
                    instance.copied.iter().flat_map(|c| c.marked..c.marked + c.length).collect();
                let characters: Vec<char> = text.chars().collect();
                let kept: String = instance.text.chars().enumerate().filter(|(i, _)| at.contains(i)).map(|(_, c)| c).collect();
                prop_assert_eq!(kept, expected.iter().map(|&i| characters[i]).collect::<String>());
            }
        }
    }

    #[test]
    fn removing_the_markers_restores_the_text((text, spans) in cases()) {
        let s = sentence(&text, [("protein", &[spans[0]]), ("protein", &[spans[1]])]);
        let instance = marked(&s, &Task::ppi(), Marking::Markers);
        let plain = ["[E1] ", "[E2] ", " [/E1]", " [/E2]"].iter().fold(instance.text.clone(), |t, m| t.replace(m, ""));
        prop_assert_eq!(plain, text);
        for (which, span) in instance.entities.into_iter().enumerate() {
            let part = slice(&instance.text, span);
            let (open, close) = (format!("[E{}] ", which + 1), format!(" [/E{}]", which + 1));
            prop_assert!(part.starts_with(&open) && part.ends_with(&close), "{}", part);
        }
    }
}
