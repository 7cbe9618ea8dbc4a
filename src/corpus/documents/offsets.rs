//! The unit of a file's offsets, found by comparing them with the mentions' texts.

use crate::corpus::Span;
use crate::corpus::offsets::CharIndex;

/// The finding about a mention that [`Converter::fit_discontinuous`] found.
pub(super) const DISCONTINUOUS: &str = "one location covers a mention in several segments, which are found by its text";

/// The unit that offsets count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OffsetUnit {
    Characters,
    /// As in Java, JavaScript and C#: two for a character outside the basic plane.
    Utf16,
    /// As in C and tools that work on UTF-8.
    Bytes,
    /// Characters of the text as escaped in XML: `&apos;` counts as six.
    Escaped,
    /// The same without escaped quotes.
    EscapedMarkup,
}

impl OffsetUnit {
    /// The units of all formats, in the order in which they are tried.
    pub(super) const ALL: [Self; 3] = [Self::Characters, Self::Utf16, Self::Bytes];
    /// Units that were found in BioC only, whose files are often converted from XML.
    pub(super) const ESCAPED: [Self; 2] = [Self::Escaped, Self::EscapedMarkup];

    fn width(self, character: char) -> usize {
        match self {
            Self::Characters => 1,
            Self::Utf16 => character.len_utf16(),
            Self::Bytes => character.len_utf8(),
            Self::Escaped | Self::EscapedMarkup => match character {
                '&' => "&amp;".len(),
                '<' | '>' => "&lt;".len(),
                '"' | '\'' if self == Self::Escaped => "&quot;".len(),
                _ => 1,
            },
        }
    }

    /// Length of a text.
    pub(super) fn length(self, text: &str) -> usize {
        match self {
            Self::Bytes => text.len(),
            _ => text.chars().map(|character| self.width(character)).sum(),
        }
    }

    /// The reason of the finding if offsets count this unit.
    pub(super) fn reason(self) -> Option<&'static str> {
        match self {
            Self::Characters => None,
            Self::Utf16 => Some("offsets count UTF-16 code units; converted to characters"),
            Self::Bytes => Some("offsets count UTF-8 bytes; converted to characters"),
            Self::Escaped | Self::EscapedMarkup => {
                Some("offsets count characters of escaped XML; converted to characters of the text")
            }
        }
    }
}

/// Converts offsets in one text from a unit to characters.
pub(super) struct Converter<'a> {
    index: CharIndex<'a>,
    /// Offset, in the unit, of each character and of the end; `None` if offsets are characters.
    starts: Option<Vec<usize>>,
}

impl<'a> Converter<'a> {
    pub(super) fn new(text: &'a str, unit: OffsetUnit) -> Self {
        let same = match unit {
            OffsetUnit::Characters => true,
            OffsetUnit::Utf16 | OffsetUnit::Bytes => text.is_ascii(),
            OffsetUnit::Escaped | OffsetUnit::EscapedMarkup => !text.contains(['&', '<', '>', '"', '\'']),
        };
        let starts = (!same).then(|| {
            let mut at = 0;
            let mut starts: Vec<usize> = Vec::with_capacity(text.len() + 1);
            for character in text.chars() {
                starts.push(at);
                at += unit.width(character);
            }
            starts.push(at);
            starts
        });
        Self { index: CharIndex::new(text), starts }
    }

    /// The character at an offset; `None` outside of the text or inside a character.
    pub(super) fn character(&self, offset: usize) -> Option<usize> {
        match &self.starts {
            Some(starts) => starts.binary_search(&offset).ok(),
            None => Some(offset).filter(|&offset| offset <= self.index.len()),
        }
    }

    /// The segments as sorted spans of characters, and their texts; `None` if they are outside the
    /// text, empty or overlapping.
    pub(super) fn spans(&self, segments: &[(usize, usize)]) -> Option<(Vec<Span>, Vec<&'a str>)> {
        let convert = |&(start, end): &(usize, usize)| Some(Span::new(self.character(start)?, self.character(end)?));
        let mut spans = segments.iter().map(convert).collect::<Option<Vec<Span>>>()?;
        spans.sort_unstable();
        let apart = spans.windows(2).all(|pair| pair[0].end <= pair[1].start);
        if spans.is_empty() || spans.iter().any(Span::is_empty) || !apart {
            return None;
        }
        let slices = spans.iter().map(|&span| self.index.slice(span)).collect::<Option<Vec<_>>>()?;
        Some((spans, slices))
    }

    /// The segments as spans, if they match the mention. White space may differ (brat writes a line
    /// break as a space). The stated text of a mention in several segments may be that of the
    /// segments or all from the first to the last. A mention without a stated text only has to be
    /// inside the text.
    pub(super) fn fit(&self, segments: &[(usize, usize)], mention: Option<&str>) -> Option<Vec<Span>> {
        let (spans, slices) = self.spans(segments)?;
        let Some(mention) = mention else { return Some(spans) };
        let bounds = Span::bounding(&spans);
        let without_spaces = |text: &str| text.split_whitespace().collect::<String>();
        let matches = if spans.len() == 1 {
            slices[0] == mention || (slices[0].split_whitespace().eq(mention.split_whitespace()))
        } else {
            without_spaces(&slices.concat()) == without_spaces(mention) || self.index.slice(bounds) == Some(mention)
        };
        matches.then_some(spans)
    }

    /// The segments of a mention whose single location covers more than the mention: `alpha
    /// blockers` in `alpha and beta blockers`. Either the mention starts and ends as the location
    /// does and is cut once, at a word boundary on at least one side; or it consists of some of the
    /// location's words.
    pub(super) fn fit_discontinuous(&self, (start, end): (usize, usize), mention: &str) -> Option<Vec<Span>> {
        let (spans, slices) = self.spans(&[(start, end)])?;
        let [Span { start, end }] = spans.as_slice() else { return None };
        let text: Vec<char> = slices[0].chars().collect();
        let words: Vec<char> = mention.chars().collect();
        if words.len() >= text.len() || mention.trim() != mention {
            return None;
        }
        let same = |(a, b): (&char, &char)| a == b || (a.is_whitespace() && b.is_whitespace());
        let first = text.iter().zip(&words).take_while(|&pair| same(pair)).count();
        let last = text.iter().rev().zip(words.iter().rev()).take_while(|&pair| same(pair)).count();
        // If possible, the cut is between words of the mention.
        let cuts = (1..words.len()).filter(|&cut| cut <= first && words.len() - cut <= last);
        let is_border = |a: char, b: char| !(a.is_alphanumeric() && b.is_alphanumeric());
        let borders = |cut: usize| {
            let gap = text.len() - (words.len() - cut);
            let outer = [is_border(text[cut - 1], text[cut]), is_border(text[gap - 1], text[gap])];
            usize::from(outer[0]) + usize::from(outer[1]) + usize::from(is_border(words[cut - 1], words[cut]))
        };
        let best = cuts.map(|cut| (borders(cut), cut)).max().filter(|(borders, _)| *borders > 0);
        if let Some((_, cut)) = best {
            let segments = [(0, cut), (text.len() - (words.len() - cut), text.len())];
            return Some(segments.map(|(from, to)| trim(&text, from, to, *start)).to_vec());
        }
        // Some of the location's words, in order, with the first and the last.
        let mut segments: Vec<Span> = Vec::new();
        let mut wanted = mention.split_whitespace().peekable();
        let mut at = 0;
        for word in slices[0].split_whitespace() {
            let length = word.chars().count();
            at += text[at..].iter().take_while(|c| c.is_whitespace()).count();
            if wanted.peek() == Some(&word) {
                wanted.next();
                segments.push(Span::new(start + at, start + at + length));
            }
            at += length;
        }
        let whole = segments.first()?.start == *start && segments.last()?.end == *end;
        (whole && wanted.peek().is_none()).then_some(segments)
    }

    /// The text at the segments, for messages.
    pub(super) fn found(&self, segments: &[(usize, usize)]) -> String {
        match self.spans(segments) {
            Some((_, slices)) => format!("which is `{}`", slices.join(" ")),
            None => format!("which is not a range of the text's {} characters", self.index.len()),
        }
    }
}

/// A range of a text without the white space at its ends, moved by `start`.
fn trim(text: &[char], from: usize, to: usize, start: usize) -> Span {
    let white_space = |mut part: std::slice::Iter<char>| part.position(|c| !c.is_whitespace()).unwrap_or_default();
    let (before, after) =
        (white_space(text[from..to].iter()), text[from..to].iter().rev().take_while(|c| c.is_whitespace()));
    Span::new(start + from + before, start + to - after.count())
}

/// The offsets as in the file, for messages.
pub(super) fn written(segments: &[(usize, usize)]) -> String {
    segments.iter().map(|(start, end)| format!("{start}-{end}")).collect::<Vec<_>>().join(";")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_units_convert_to_the_same_characters() {
        // One astral character (4 bytes, 2 units), one of two bytes, a combining mark (2 bytes).
        let text = "𝛼β e\u{301} x";
        let x = [(OffsetUnit::Characters, 6), (OffsetUnit::Utf16, 7), (OffsetUnit::Bytes, 11)];
        for (unit, at) in x {
            let converter = Converter::new(text, unit);
            assert_eq!(converter.fit(&[(at, at + 1)], Some("x")), Some(vec![Span::new(6, 7)]), "{unit:?}");
            assert_eq!(unit.length(text), at + 1);
        }
        assert_eq!(Converter::new(text, OffsetUnit::Bytes).fit(&[(1, 3)], None), None);
    }

    #[test]
    fn white_space_may_differ_and_other_text_may_not() {
        let converter = Converter::new("heart\nattack and arrest", OffsetUnit::Characters);
        assert!(converter.fit(&[(0, 12)], Some("heart attack")).is_some());
        assert!(converter.fit(&[(0, 12)], Some("heartattack")).is_none());
        assert!(converter.fit(&[(0, 5), (17, 23)], Some("heart arrest")).is_some());
        assert!(converter.fit(&[(0, 5), (4, 8)], None).is_none());
        assert!(converter.fit(&[(3, 3)], None).is_none());
        assert!(converter.fit(&[(20, 30)], None).is_none());
        assert!(converter.fit(&[], None).is_none());
    }

    #[test]
    fn escaped_characters_have_the_length_of_their_escapes() {
        let text = "R&D's \"x\" < y";
        // R&amp;D&apos;s &quot;x&quot; &lt; y, and R&amp;D's "x" &lt; y.
        for (unit, at) in [(OffsetUnit::Escaped, 34), (OffsetUnit::EscapedMarkup, 19)] {
            let found = Converter::new(text, unit).fit(&[(at, at + 1)], Some("y"));
            assert_eq!(found, Some(vec![Span::new(12, 13)]), "{unit:?}");
        }
    }

    #[test]
    fn one_location_over_a_mention_in_segments() {
        let apart = |text: &str, mention: &str| {
            let found =
                Converter::new(text, OffsetUnit::Characters).fit_discontinuous((0, text.chars().count()), mention);
            found.map(|spans| spans.iter().map(|span| (span.start, span.end)).collect::<Vec<_>>())
        };
        assert_eq!(apart("alpha and beta blockers", "alpha blockers"), Some(vec![(0, 5), (15, 23)]));
        assert_eq!(apart("α- and β-blockers", "α-blockers"), Some(vec![(0, 2), (9, 17)]));
        assert_eq!(apart("pre- and postoperative pain", "preoperative pain"), Some(vec![(0, 3), (13, 27)]));
        assert_eq!(apart("breast or ovarian and colon cancer", "breast colon cancer"), Some(vec![(0, 6), (22, 34)]));
        assert_eq!(apart("a bb cc dd ee", "a cc ee"), Some(vec![(0, 1), (5, 7), (11, 13)]));
        for (text, mention) in [("alpha and beta", "alpha gamma"), ("abcde", "ade"), ("abc", "abc"), ("a b", "")] {
            assert_eq!(apart(text, mention), None, "{text}: {mention}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_unit_finds_every_mention(text in "[a-zβ𝛼\u{301} ]{1,30}", start in 0_usize..30, length in 1_usize..8) {
            let characters: Vec<char> = text.chars().collect();
            let start = start % characters.len();
            let end = (start + length).min(characters.len());
            let before: String = characters[..start].iter().collect();
            let mention: String = characters[start..end].iter().collect();
            for unit in OffsetUnit::ALL {
                let at = unit.length(&before);
                let segment = (at, at + unit.length(&mention));
                let found = Converter::new(&text, unit).fit(&[segment], Some(&mention));
                proptest::prop_assert_eq!(found, Some(vec![Span::new(start, end)]));
            }
        }
    }
}
