//! Entities by dictionary: the terms of a user's list, found in documents that have none.
//!
//! All terms are searched at once with Aho and Corasick's automaton (the crate `aho-corasick`).
//!
//! * A match starts and ends at the border of a word: no letter or digit of the text continues a
//!   letter or digit of the term. `p53` is found in `p53-dependent`, and not in `p530`.
//! * Of overlapping matches the leftmost counts, of those that start together the longest.
//! * White space in a term matches any white space of the text.
//! * Case ([`TermCase`]) is by default that of the term for a short term or an acronym, since `CAT`
//!   and `WAS` are genes, and any case for others.
//! * Entities that a document has are kept; a match that overlaps one is left out.

use std::collections::HashMap;

use aho_corasick::{AhoCorasick, MatchKind};
use sha2::{Digest, Sha256};
use strum::{IntoStaticStr, VariantArray};

use super::document::Document;
use crate::corpus::Span;
use crate::digest::hex;
use crate::{Error, Result};

/// Terms up to this many characters have to match in their case, by default.
const SHORT: usize = 3;
/// How many problems of a list of terms an error shows.
const SHOWN: usize = 5;

/// Which upper and lower case a term matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum TermCase {
    /// Its own for a term of at most three characters or without a lower-case letter; any for others.
    Auto,
    /// Its own.
    Sensitive,
    /// Any.
    Insensitive,
}

named!(TermCase, "case");

/// A term of a user's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// What is searched for.
    pub text: String,
    /// The type of its mentions.
    pub entity_type: String,
    /// The database concept that it names; may be empty.
    pub identifier: String,
    /// Where the list states it, for messages: `terms.tsv:3`.
    pub place: String,
}

/// What a term stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    entity_type: String,
    /// Several if the list has the term with several concepts.
    identifiers: Vec<String>,
    place: String,
}

/// Terms that match in the same way.
#[derive(Debug)]
struct Terms {
    folds: bool,
    automaton: AhoCorasick,
    entries: Vec<Entry>,
}

/// A mention of a term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found<'a> {
    /// Its characters.
    pub span: Span,
    /// Its type.
    pub entity_type: &'a str,
    /// Its concepts.
    pub identifiers: &'a [String],
}

/// A list of terms that can be searched for.
#[derive(Debug)]
pub struct Dictionary {
    groups: Vec<Terms>,
    hash: String,
}

impl PartialEq for Dictionary {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Eq for Dictionary {}

impl Dictionary {
    /// Compile a list.
    ///
    /// # Errors
    /// [`Error::Corpus`] for an empty list, a term without a letter or digit, one without a type,
    /// and for a term with two types.
    pub fn new(terms: &[Term], case: TermCase) -> Result<Self> {
        if terms.is_empty() {
            return Err(Error::corpus("terms", "the list has no terms"));
        }
        let mut hash = Sha256::new().chain_update(case.name());
        let mut groups: [(Vec<String>, Vec<Entry>); 2] = Default::default();
        let mut known: HashMap<(bool, String), usize> = HashMap::new();
        let mut ambiguous: Vec<String> = Vec::new();
        for term in terms {
            let Term { text, entity_type, identifier, place } = term;
            if !text.chars().any(char::is_alphanumeric) {
                return Err(Error::corpus(place, format!("the term `{text}` has no letter or digit")));
            }
            if entity_type.trim().is_empty() {
                return Err(Error::corpus(place, format!("the term `{text}` has no type")));
            }
            for part in [text, entity_type, identifier] {
                hash.update(part);
                hash.update([0]);
            }
            let folds = match case {
                TermCase::Sensitive => false,
                TermCase::Insensitive => true,
                TermCase::Auto => text.chars().count() > SHORT && text.chars().any(char::is_lowercase),
            };
            let pattern = Searched::new(text.trim(), folds).text;
            let (patterns, entries) = &mut groups[usize::from(folds)];
            let number = *known.entry((folds, pattern.clone())).or_insert_with(|| {
                patterns.push(pattern);
                let (entity_type, place) = (entity_type.clone(), place.clone());
                entries.push(Entry { entity_type, identifiers: Vec::new(), place });
                entries.len() - 1
            });
            let entry = &mut entries[number];
            if entry.entity_type != *entity_type {
                let one = format!("`{text}` is {} ({}) and {entity_type} ({place})", entry.entity_type, entry.place);
                ambiguous.push(one);
            } else if !identifier.is_empty() && !entry.identifiers.contains(identifier) {
                entry.identifiers.push(identifier.clone());
            }
        }
        if !ambiguous.is_empty() {
            let more =
                if ambiguous.len() > SHOWN { format!(", and {} more", ambiguous.len() - SHOWN) } else { "".into() };
            let shown = ambiguous[..ambiguous.len().min(SHOWN)].join("; ");
            let message = format!("a term can have one type, and {shown}{more}: leave one of each out");
            return Err(Error::corpus("terms", message));
        }
        let mut compiled = Vec::new();
        for (folds, (patterns, entries)) in [false, true].into_iter().zip(groups) {
            if !patterns.is_empty() {
                let automaton = AhoCorasick::builder().match_kind(MatchKind::Standard).build(&patterns);
                let automaton = automaton
                    .map_err(|error| Error::corpus("terms", format!("the list cannot be compiled: {error}")))?;
                compiled.push(Terms { folds, automaton, entries });
            }
        }
        Ok(Self { groups: compiled, hash: hex(hash) })
    }

    /// How many different terms it has.
    pub fn len(&self) -> usize {
        self.groups.iter().map(|group| group.entries.len()).sum()
    }

    /// Whether it has no terms; never.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// SHA-256 of the terms and of how case counts.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The mentions of terms in a text, in order.
    pub fn find(&self, text: &str) -> Vec<Found<'_>> {
        let characters: Vec<char> = text.chars().collect();
        let joins = |at: usize| {
            at > 0 && at < characters.len() && characters[at - 1].is_alphanumeric() && characters[at].is_alphanumeric()
        };
        let mut found: Vec<(bool, Found)> = Vec::new();
        for group in &self.groups {
            let searched = Searched::new(text, group.folds);
            for matched in group.automaton.find_overlapping_iter(&searched.text) {
                let Some(span) = searched.span(matched.start(), matched.end()) else { continue };
                if joins(span.start) || joins(span.end) {
                    continue;
                }
                let Entry { entity_type, identifiers, .. } = &group.entries[matched.pattern().as_usize()];
                found.push((group.folds, Found { span, entity_type, identifiers }));
            }
        }
        // Of the same characters, the term that matches in its own case counts.
        found.sort_by_key(|(folds, one)| (one.span.start, std::cmp::Reverse(one.span.end), *folds));
        let mut end = 0;
        let mut kept = Vec::new();
        for (_, one) in found {
            if one.span.start >= end {
                end = one.span.end;
                kept.push(one);
            }
        }
        kept
    }

    /// The document with the mentions of terms added; see [`Document::with_entities`].
    ///
    /// # Errors
    /// As [`Document::check`].
    pub fn annotate(&self, document: &Document) -> Result<Document> {
        let mut entities = Vec::new();
        for passage in &document.passages {
            entities.extend(self.find(&passage.text).into_iter().map(|Found { span, entity_type, identifiers }| {
                let span = Span::new(span.start + passage.start, span.end + passage.start);
                (entity_type.to_owned(), identifiers.to_vec(), span)
            }));
        }
        document.with_entities(entities)
    }
}

/// A text as it is searched: white space as single spaces, and maybe without case.
struct Searched {
    text: String,
    /// For each byte of `text`, and its end, the character of the original that starts there;
    /// `None` inside one.
    starts: Vec<Option<usize>>,
}

impl Searched {
    fn new(original: &str, folds: bool) -> Self {
        let mut searched = Self { text: String::with_capacity(original.len()), starts: Vec::new() };
        let mut length = 0;
        let mut blank = false;
        for (at, character) in original.chars().enumerate() {
            length = at + 1;
            match (character.is_whitespace(), folds) {
                // Of a run of white space, the first character counts.
                (true, _) if blank => continue,
                (true, _) => searched.push(at, ' '),
                (false, false) => searched.push(at, character),
                (false, true) => {
                    // Some characters have several in lower case.
                    for (number, lower) in character.to_lowercase().enumerate() {
                        match number {
                            0 => searched.push(at, lower),
                            _ => searched.append(lower),
                        }
                    }
                }
            }
            blank = character.is_whitespace();
        }
        searched.starts.push(Some(length));
        searched
    }

    fn push(&mut self, at: usize, character: char) {
        self.starts.push(Some(at));
        self.starts.extend(std::iter::repeat_n(None, character.len_utf8() - 1));
        self.text.push(character);
    }

    fn append(&mut self, character: char) {
        self.starts.extend(std::iter::repeat_n(None, character.len_utf8()));
        self.text.push(character);
    }

    /// The characters of a match; `None` if it starts or ends inside a character.
    fn span(&self, start: usize, end: usize) -> Option<Span> {
        Some(Span::new((*self.starts.get(start)?)?, (*self.starts.get(end)?)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dictionary(terms: &[(&str, &str, &str)], case: TermCase) -> Result<Dictionary> {
        let term = |(number, (text, entity_type, identifier)): (usize, &(&str, &str, &str))| Term {
            text: (*text).into(),
            entity_type: (*entity_type).into(),
            identifier: (*identifier).into(),
            place: format!("terms.tsv:{}", number + 1),
        };
        Dictionary::new(&terms.iter().enumerate().map(term).collect::<Vec<_>>(), case)
    }

    fn found(dictionary: &Dictionary, text: &str) -> Vec<(String, String)> {
        let characters: Vec<char> = text.chars().collect();
        let slice = |span: Span| characters[span.start..span.end].iter().collect();
        dictionary.find(text).into_iter().map(|one| (slice(one.span), one.entity_type.to_owned())).collect()
    }

    fn texts(dictionary: &Dictionary, text: &str) -> Vec<String> {
        found(dictionary, text).into_iter().map(|(text, _)| text).collect()
    }

    #[test]
    fn the_leftmost_longest_whole_words_count() {
        let terms =
            [("p53", "Gene", ""), ("heart", "Organ", ""), ("heart attack", "Disease", ""), ("attack rate", "X", "")];
        let dictionary = dictionary(&terms, TermCase::Auto).unwrap();
        assert_eq!(texts(&dictionary, "p53-dependent p530 ap53 (p53)"), ["p53", "p53"]);
        assert_eq!(texts(&dictionary, "heart attack rate"), ["heart attack"]);
        // The longer term ends inside a word here: the shorter one counts.
        assert_eq!(texts(&dictionary, "heart attacks"), ["heart"]);
        assert_eq!(texts(&dictionary, "heart\n  attack"), ["heart\n  attack"]);
        assert!(texts(&dictionary, "").is_empty());
    }

    #[test]
    fn case_counts_for_short_terms_and_acronyms() {
        let terms = [("CAT", "Gene", ""), ("BRCA1", "Gene", ""), ("Aspirin", "Chemical", ""), ("Öl", "Chemical", "")];
        let auto = dictionary(&terms, TermCase::Auto).unwrap();
        assert_eq!(
            texts(&auto, "cat CAT brca1 BRCA1 ASPIRIN aspirin öl Öl"),
            ["CAT", "BRCA1", "ASPIRIN", "aspirin", "Öl"]
        );
        let any = dictionary(&terms, TermCase::Insensitive).unwrap();
        assert_eq!(any.find("cat CAT brca1 BRCA1 ASPIRIN aspirin öl Öl").len(), 8);
        let own = dictionary(&terms, TermCase::Sensitive).unwrap();
        assert_eq!(texts(&own, "cat CAT ASPIRIN Aspirin"), ["CAT", "Aspirin"]);
        assert_ne!(auto.hash(), any.hash());
        // `İ` has two characters in lower case; offsets after it stay right.
        assert_eq!(texts(&auto, "İİ 𝛼 aspirin"), ["aspirin"]);
    }

    #[test]
    fn a_term_may_have_several_concepts_and_one_type() {
        let one = dictionary(
            &[("cold", "Disease", "D1"), ("Cold", "Disease", "D2"), ("cold", "Disease", "D1")],
            TermCase::Auto,
        );
        let one = one.unwrap();
        assert_eq!((one.len(), one.find("COLD")[0].identifiers), (1, &["D1".to_owned(), "D2".to_owned()][..]));
        let error = dictionary(&[("cold", "Disease", ""), ("Cold", "Symptom", "")], TermCase::Auto).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("`Cold` is Disease (terms.tsv:1) and Symptom (terms.tsv:2)"), "{message}");
        for (term, part) in [(("..", "X", ""), "no letter or digit"), (("abc", " ", ""), "has no type")] {
            let message = dictionary(&[term], TermCase::Auto).unwrap_err().to_string();
            assert!(message.starts_with("terms.tsv:1") && message.contains(part), "{message}");
        }
        assert!(dictionary(&[], TermCase::Auto).unwrap_err().to_string().contains("no terms"));
    }

    proptest::proptest! {
        /// Against a direct search of every term at every position.
        #[test]
        fn the_same_as_a_direct_search(
            text in "[abAB1 İβ𝛼.-]{0,30}",
            terms in proptest::collection::btree_set("[abAB1β]{1,4}( [ab]{1,2})?", 1..6),
            folds in proptest::bool::ANY,
        ) {
            let fold = |text: &str| if folds { text.to_lowercase() } else { text.to_owned() };
            let terms: std::collections::BTreeSet<String> = terms.iter().map(|term| fold(term)).collect();
            let listed: Vec<(&str, &str, &str)> = terms.iter().map(|term| (term.as_str(), "X", "")).collect();
            let case = if folds { TermCase::Insensitive } else { TermCase::Sensitive };
            let dictionary = dictionary(&listed, case).unwrap();
            let characters: Vec<char> = text.chars().collect();
            let slice = |start: usize, end: usize| -> String { characters[start..end].iter().collect() };
            let inside = |at: usize| {
                at > 0 && at < characters.len() && characters[at - 1].is_alphanumeric() && characters[at].is_alphanumeric()
            };
            let (mut expected, mut start) = (Vec::new(), 0);
            while start < characters.len() {
                let ends = (start + 1..=characters.len()).rev();
                let single = |text: &str| text.split(' ').filter(|part| !part.is_empty()).count() == text.split(' ').count();
                let mut matching = ends.filter(|&end| {
                    let part = slice(start, end);
                    let normal = part.split_whitespace().collect::<Vec<_>>().join(" ");
                    let outer = part.trim() == part;
                    outer && terms.contains(&fold(&normal)) && single(&normal) && !inside(start) && !inside(end)
                });
                match matching.next() {
                    Some(end) => {
                        expected.push((start, end));
                        start = end;
                    }
                    None => start += 1,
                }
            }
            let found: Vec<_> = dictionary.find(&text).iter().map(|one| (one.span.start, one.span.end)).collect();
            proptest::prop_assert_eq!(found, expected);
        }
    }
}
