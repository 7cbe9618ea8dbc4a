//! From a document to its sentences, each with its mentions.

use super::document::{Document, Mention, Passage};
use crate::corpus::offsets::CharIndex;
use crate::corpus::{Candidates, Entity, Finding, FindingKind, Sentence, Span, split_sentences};

/// A sentence of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentSentence {
    /// The sentence, without pairs; its offsets count from its own start.
    pub sentence: Sentence,
    /// Its offset in the document.
    pub start: usize,
    /// Index in [`Document::mentions`] of each of its entities.
    pub mentions: Vec<usize>,
}

impl DocumentSentence {
    /// The candidate pairs, as indices of the sentence's entities. A mention that is
    /// listed twice does not form a pair with itself.
    pub fn candidates(&self, candidates: &Candidates) -> Vec<(usize, usize)> {
        let entities = &self.sentence.entities;
        let same = |(a, b): (usize, usize)| {
            entities[a].spans == entities[b].spans && entities[a].entity_type == entities[b].entity_type
        };
        candidates.of(&self.sentence).into_iter().filter(|&pair| !same(pair)).collect()
    }
}

impl Document {
    /// The sentences in order, and findings about mentions that are in none of them or were
    /// repaired.
    pub fn sentences(&self) -> (Vec<DocumentSentence>, Vec<Finding>) {
        let mut findings = Vec::new();
        let mut note =
            |kind, id: &str, reason: &str| findings.push(Finding::new(kind, format!("{}.{id}", self.id), reason));
        let mut sentences: Vec<DocumentSentence> = Vec::new();
        for (number, passage) in self.passages.iter().enumerate() {
            let own = |mention: &Mention| mention.passage == Some(number);
            let mut inside: Vec<usize> = (0..self.mentions.len()).filter(|&index| own(&self.mentions[index])).collect();
            // In the order of the text, not of the file: it is the order of the arguments where types do not
            // decide. Of mentions that start together, the longest comes first.
            inside.sort_by_key(|&index| {
                let bounds = self.mentions[index].bounding_span();
                (bounds.start, std::cmp::Reverse(bounds.end))
            });
            let (spans, joined) = self.spans(passage, &inside);
            if joined {
                let reason = "a sentence boundary inside a mention is ignored";
                note(FindingKind::Repaired, &format!("passage{number}"), reason);
            }
            let first = sentences.len();
            let index = CharIndex::new(&passage.text);
            for span in &spans {
                let text = index.slice(*span);
                sentences.push(DocumentSentence {
                    sentence: Sentence {
                        id: format!("{}.s{}", self.id, sentences.len()),
                        document: self.id.clone(),
                        text: text.unwrap_or_default().to_owned(),
                        entities: Vec::new(),
                        pairs: Vec::new(),
                    },
                    start: span.start + passage.start,
                    mentions: Vec::new(),
                });
            }
            for index in inside {
                let mention = &self.mentions[index];
                let bounds = mention.bounding_span();
                let (start, end) = (bounds.start - passage.start, bounds.end - passage.start);
                let sentence = spans.partition_point(|span| span.start <= start).checked_sub(1);
                let Some(sentence) = sentence.filter(|&sentence| end <= spans[sentence].end) else {
                    note(
                        FindingKind::Skipped,
                        &mention.id,
                        "a mention that no sentence contains completely forms no pair",
                    );
                    continue;
                };
                if mention.spans.len() > 1 {
                    let reason = "a mention in several segments extends from its first to its last character";
                    note(FindingKind::Repaired, &mention.id, reason);
                }
                let sentence = &mut sentences[first + sentence];
                let moved =
                    mention.spans.iter().map(|span| Span::new(span.start - sentence.start, span.end - sentence.start));
                sentence.sentence.entities.push(Entity {
                    id: mention.id.clone(),
                    entity_type: mention.entity_type.clone(),
                    text: mention.text.clone(),
                    spans: moved.collect(),
                });
                sentence.mentions.push(index);
            }
        }
        for mention in self.mentions.iter().filter(|mention| mention.passage.is_none()) {
            note(FindingKind::Skipped, &mention.id, "a mention that no passage contains completely forms no pair");
        }
        (sentences, findings)
    }

    /// The sentences of a passage, as spans from its start, and whether a mention joined two of
    /// them.
    fn spans(&self, passage: &Passage, inside: &[usize]) -> (Vec<Span>, bool) {
        if passage.sentence {
            let whole = Span::new(0, passage.text.chars().count());
            return (if passage.text.trim().is_empty() { vec![] } else { vec![whole] }, false);
        }
        let segments = inside.iter().flat_map(|&index| &self.mentions[index].spans);
        let segments: Vec<Span> =
            segments.map(|span| Span::new(span.start - passage.start, span.end - passage.start)).collect();
        let breaks = paragraphs(&passage.text);
        let spans = split_sentences(&passage.text, &breaks, &segments);
        let joined = !segments.is_empty() && split_sentences(&passage.text, &breaks, &[]).len() > spans.len();
        (spans, joined)
    }
}

/// The offsets of the characters that follow a blank line, sorted.
fn paragraphs(text: &str) -> Vec<usize> {
    let (mut breaks, mut ends) = (Vec::new(), 0);
    for (at, character) in text.chars().enumerate() {
        if character == '\n' {
            ends += 1;
        } else if !character.is_whitespace() {
            if ends > 1 {
                breaks.push(at);
            }
            ends = 0;
        }
    }
    breaks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str, mentions: &[&[(usize, usize)]]) -> Document {
        let passage = Passage { passage_type: String::new(), start: 100, text: text.into(), sentence: false };
        let mention = |(number, segments): (usize, &&[(usize, usize)])| Mention {
            id: format!("T{number}"),
            entity_type: "x".into(),
            text: String::new(),
            identifiers: Vec::new(),
            spans: segments.iter().map(|&(start, end)| Span::new(start + 100, end + 100)).collect(),
            passage: Some(0),
        };
        let mentions = mentions.iter().enumerate().map(mention).collect();
        Document { id: "d".into(), passages: vec![passage], mentions, ..Document::default() }
    }

    fn texts(sentences: &[DocumentSentence]) -> Vec<(usize, &str)> {
        sentences.iter().map(|one| (one.start, one.sentence.text.as_str())).collect()
    }

    #[test]
    fn sentences_end_at_stops_and_blank_lines() {
        let document = document("𝛼 one. Two\nand two\n \nthree", &[&[(0, 1)], &[(7, 10)], &[(21, 26)]]);
        let (sentences, findings) = document.sentences();
        assert_eq!(texts(&sentences), [(100, "𝛼 one."), (107, "Two\nand two"), (121, "three")]);
        assert_eq!(sentences.iter().map(|one| one.mentions.clone()).collect::<Vec<_>>(), [vec![0], vec![1], vec![2]]);
        assert_eq!(sentences[1].sentence.entities[0].spans, [Span::new(0, 3)]);
        assert!(findings.is_empty());
    }

    #[test]
    fn no_segment_is_cut_and_segments_in_two_sentences_form_no_pair() {
        let document = document("St. John. Wort here. Then that.", &[&[(0, 14)], &[(15, 19), (26, 30)]]);
        let (sentences, findings) = document.sentences();
        assert_eq!(texts(&sentences), [(100, "St. John. Wort here."), (121, "Then that.")]);
        let reasons: Vec<&str> = findings.iter().map(|finding| finding.reason.as_str()).collect();
        assert_eq!(
            reasons,
            [
                "a sentence boundary inside a mention is ignored",
                "a mention that no sentence contains completely forms no pair"
            ]
        );
    }

    #[test]
    fn a_mention_listed_twice_forms_no_pair() {
        let document = document("aa bb", &[&[(0, 2)], &[(0, 2)], &[(3, 5)]]);
        let (sentences, _) = document.sentences();
        assert_eq!(sentences[0].candidates(&Candidates::default()), [(0, 2), (1, 2)]);
    }

    proptest::proptest! {
        #[test]
        fn every_mention_keeps_its_position_or_is_reported(
            text in "[ A-C.?β𝛼\u{301}\\n]{1,60}",
            positions in proptest::collection::vec((0_usize..60, 1_usize..6, 0_usize..8, 1_usize..4), 0..5),
        ) {
            let characters: Vec<char> = text.chars().collect();
            let length = characters.len();
            let segments = |&(start, size, gap, more): &(usize, usize, usize, usize)| {
                let start = start % length;
                let end = (start + size).min(length);
                let mut segments = vec![(start, end)];
                if gap > 0 && end + gap < length {
                    segments.push((end + gap, (end + gap + more).min(length)));
                }
                segments
            };
            let positions: Vec<Vec<(usize, usize)>> = positions.iter().map(segments).collect();
            let document = document(&text, &positions.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let (sentences, findings) = document.sentences();
            let mut seen = vec![0; positions.len()];
            for sentence in &sentences {
                proptest::prop_assert!(sentence.sentence.check().is_ok());
                let own: Vec<char> = sentence.sentence.text.chars().collect();
                for (entity, &index) in sentence.sentence.entities.iter().zip(&sentence.mentions) {
                    seen[index] += 1;
                    for (span, &(start, end)) in entity.spans.iter().zip(&positions[index]) {
                        proptest::prop_assert_eq!(&own[span.start..span.end], &characters[start..end]);
                        proptest::prop_assert_eq!(span.start + sentence.start, start + 100);
                    }
                }
            }
            let skipped = findings.iter().filter(|finding| finding.kind == FindingKind::Skipped).count();
            proptest::prop_assert!(seen.iter().all(|&count| count <= 1));
            proptest::prop_assert_eq!(seen.iter().sum::<usize>() + skipped, positions.len());
        }
    }
}
