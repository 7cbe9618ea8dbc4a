//! What a file's offsets count, decided by the mentions' own texts.

use crate::corpus::Span;
use crate::corpus::offsets::CharIndex;

/// What offsets count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Characters,
    /// As Java, JavaScript and C# count: two for an astral character.
    Utf16,
    /// As C and UTF-8 tools count.
    Bytes,
}

impl Unit {
    /// In the order in which they are tried.
    pub(super) const ALL: [Self; 3] = [Self::Characters, Self::Utf16, Self::Bytes];

    fn width(self, character: char) -> usize {
        match self {
            Self::Characters => 1,
            Self::Utf16 => character.len_utf16(),
            Self::Bytes => character.len_utf8(),
        }
    }

    /// Length of a text.
    pub(super) fn length(self, text: &str) -> usize {
        match self {
            Self::Bytes => text.len(),
            _ => text.chars().map(|character| self.width(character)).sum(),
        }
    }

    /// What is reported when offsets count this.
    pub(super) fn reason(self) -> Option<&'static str> {
        match self {
            Self::Characters => None,
            Self::Utf16 => Some("offsets count UTF-16 code units; converted to characters"),
            Self::Bytes => Some("offsets count UTF-8 bytes; converted to characters"),
        }
    }
}

/// From a unit's offsets in one text to characters.
pub(super) struct Converter<'a> {
    index: CharIndex<'a>,
    /// Offset in the unit of each character and of the end; `None` where they are the same.
    starts: Option<Vec<usize>>,
}

impl<'a> Converter<'a> {
    pub(super) fn new(text: &'a str, unit: Unit) -> Self {
        let starts = (unit != Unit::Characters && !text.is_ascii()).then(|| {
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
    fn character(&self, offset: usize) -> Option<usize> {
        match &self.starts {
            Some(starts) => starts.binary_search(&offset).ok(),
            None => Some(offset).filter(|&offset| offset <= self.index.len()),
        }
    }

    /// The segments as sorted spans of characters, and the slices; `None` where they do not fit the text, are empty or
    /// overlap.
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

    /// The segments as spans, where they hold the mention: its text but for the kind and number of blanks (brat writes
    /// a line break as a blank), or, of a mention in segments, the text from the first to the last. A mention without a
    /// stated text only has to lie inside.
    pub(super) fn fit(&self, segments: &[(usize, usize)], mention: Option<&str>) -> Option<Vec<Span>> {
        let (spans, slices) = self.spans(segments)?;
        let Some(mention) = mention else { return Some(spans) };
        let bounds = Span::bounding(&spans);
        let solid = |text: &str| text.split_whitespace().collect::<String>();
        let holds = if spans.len() == 1 {
            slices[0] == mention || (slices[0].split_whitespace().eq(mention.split_whitespace()))
        } else {
            solid(&slices.concat()) == solid(mention) || self.index.slice(bounds) == Some(mention)
        };
        holds.then_some(spans)
    }

    /// What stands at the segments, for messages.
    pub(super) fn found(&self, segments: &[(usize, usize)]) -> String {
        match self.spans(segments) {
            Some((_, slices)) => format!("which is `{}`", slices.join(" ")),
            None => format!("which is no range of the text's {} characters", self.index.len()),
        }
    }
}

/// The offsets as they are written, for messages.
pub(super) fn written(segments: &[(usize, usize)]) -> String {
    segments.iter().map(|(start, end)| format!("{start}-{end}")).collect::<Vec<_>>().join(";")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_meet_at_characters() {
        // One astral character (4 bytes, 2 units), one of two bytes, a combining mark (2 bytes).
        let text = "𝛼β e\u{301} x";
        let x = [(Unit::Characters, 6), (Unit::Utf16, 7), (Unit::Bytes, 11)];
        for (unit, at) in x {
            let converter = Converter::new(text, unit);
            assert_eq!(converter.fit(&[(at, at + 1)], Some("x")), Some(vec![Span::new(6, 7)]), "{unit:?}");
            assert_eq!(unit.length(text), at + 1);
        }
        assert_eq!(Converter::new(text, Unit::Bytes).fit(&[(1, 3)], None), None);
    }

    #[test]
    fn blanks_do_not_count_and_other_text_does() {
        let converter = Converter::new("heart\nattack and arrest", Unit::Characters);
        assert!(converter.fit(&[(0, 12)], Some("heart attack")).is_some());
        assert!(converter.fit(&[(0, 12)], Some("heartattack")).is_none());
        assert!(converter.fit(&[(0, 5), (17, 23)], Some("heart arrest")).is_some());
        assert!(converter.fit(&[(0, 5), (4, 8)], None).is_none());
        assert!(converter.fit(&[(3, 3)], None).is_none());
        assert!(converter.fit(&[(20, 30)], None).is_none());
        assert!(converter.fit(&[], None).is_none());
    }

    proptest::proptest! {
        #[test]
        fn every_unit_finds_every_stretch(text in "[a-zβ𝛼\u{301} ]{1,30}", start in 0_usize..30, length in 1_usize..8) {
            let characters: Vec<char> = text.chars().collect();
            let start = start % characters.len();
            let end = (start + length).min(characters.len());
            let before: String = characters[..start].iter().collect();
            let mention: String = characters[start..end].iter().collect();
            for unit in Unit::ALL {
                let at = unit.length(&before);
                let segment = (at, at + unit.length(&mention));
                let found = Converter::new(&text, unit).fit(&[segment], Some(&mention));
                proptest::prop_assert_eq!(found, Some(vec![Span::new(start, end)]));
            }
        }
    }
}
