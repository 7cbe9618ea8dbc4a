//! Character offsets: slicing a text by characters, and converting a file's convention to
//! end-exclusive spans.

use super::Span;

/// A text that can be sliced by characters. ASCII texts, by far most of them, need no table.
pub(super) struct CharIndex<'a> {
    text: &'a str,
    /// Byte offset of each character and of the end; `None` when bytes are characters.
    bytes: Option<Vec<usize>>,
}

impl<'a> CharIndex<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let offsets = || text.char_indices().map(|(byte, _)| byte).chain([text.len()]).collect();
        Self { text, bytes: (!text.is_ascii()).then(offsets) }
    }

    /// Number of characters.
    pub(super) fn len(&self) -> usize {
        self.bytes.as_ref().map_or(self.text.len(), |bytes| bytes.len() - 1)
    }

    /// The characters of a span; `None` when it reaches outside of the text or is inverted.
    pub(super) fn slice(&self, span: Span) -> Option<&'a str> {
        match &self.bytes {
            None => self.text.get(span.start..span.end),
            Some(bytes) => self.text.get(*bytes.get(span.start)?..*bytes.get(span.end)?),
        }
    }
}

/// How a file writes the end of an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Convention {
    /// `0-6` is seven characters.
    Inclusive,
    /// `0-7` is seven characters.
    Exclusive,
}

/// The segments of `a-b` or of a discontinuous `a-b;c-d` (DDI) or `a-b,c-d` (unified PPI form), as
/// written.
pub(super) fn parse_offsets(raw: &str) -> Option<Vec<(usize, usize)>> {
    raw.split([';', ','])
        .map(|segment| {
            let (start, end) = segment.trim().split_once('-')?;
            Some((start.trim().parse().ok()?, end.trim().parse().ok()?))
        })
        .collect()
}

/// The segments as sorted, end-exclusive spans, moved by `shift` characters; `None` if one is empty
/// or inverted, or if two overlap.
pub(super) fn to_spans(segments: &[(usize, usize)], convention: Convention, shift: isize) -> Option<Vec<Span>> {
    let mut spans = Vec::with_capacity(segments.len());
    for &(start, end) in segments {
        let end = match convention {
            Convention::Inclusive => end.checked_add(1)?,
            Convention::Exclusive => end,
        };
        let span = Span::new(start.checked_add_signed(shift)?, end.checked_add_signed(shift)?);
        if span.is_empty() {
            return None;
        }
        spans.push(span);
    }
    spans.sort_unstable();
    (!spans.is_empty() && spans.windows(2).all(|pair| pair[0].end <= pair[1].start)).then_some(spans)
}

/// Whether the text at the spans is the mention. A single segment must equal it. Several segments,
/// joined, must equal it apart from white space (corpora differ on whether they join segments with
/// a space), and none may start or end with white space.
pub(super) fn matches_mention(index: &CharIndex, spans: &[Span], mention: &str) -> bool {
    let Some(slices) = spans.iter().map(|&span| index.slice(span)).collect::<Option<Vec<_>>>() else { return false };
    match slices.as_slice() {
        [slice] => *slice == mention,
        _ => {
            let without_spaces = |text: &str| text.split_whitespace().collect::<String>();
            slices.iter().all(|slice| slice.trim() == *slice)
                && without_spaces(&slices.concat()) == without_spaces(mention)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_count_characters() {
        let index = CharIndex::new("αβ-blocker");
        assert_eq!(index.len(), 10);
        assert_eq!(index.slice(Span::new(1, 3)), Some("β-"));
        assert_eq!(index.slice(Span::new(9, 11)), None);
        assert_eq!(CharIndex::new("abc").slice(Span::new(2, 1)), None);
    }

    #[test]
    fn offsets_in_both_spellings() {
        assert_eq!(parse_offsets("3-5;9-12"), Some(vec![(3, 5), (9, 12)]));
        assert_eq!(parse_offsets("3-5,9-12"), Some(vec![(3, 5), (9, 12)]));
        for bad in ["", "3", "3-", "a-b", "3-5;", "-3-5"] {
            assert_eq!(parse_offsets(bad), None, "{bad}");
        }
    }

    #[test]
    fn spans_are_sorted_and_neither_empty_nor_overlapping() {
        use Convention::{Exclusive, Inclusive};
        assert_eq!(to_spans(&[(9, 11), (3, 5)], Inclusive, 0), Some(vec![Span::new(3, 6), Span::new(9, 12)]));
        assert_eq!(to_spans(&[(3, 5)], Exclusive, 1), Some(vec![Span::new(4, 6)]));
        assert_eq!(to_spans(&[(3, 3)], Exclusive, 0), None);
        assert_eq!(to_spans(&[(5, 3)], Inclusive, 0), None);
        assert_eq!(to_spans(&[(0, 3)], Inclusive, -1), None);
        assert_eq!(to_spans(&[(0, usize::MAX)], Inclusive, 0), None);
        assert_eq!(to_spans(&[(0, 5), (4, 9)], Inclusive, 0), None);
    }

    #[test]
    fn discontinuous_mentions_match_without_white_space() {
        let index = CharIndex::new("alpha- and beta-blocking agents");
        assert!(matches_mention(&index, &[Span::new(0, 6), Span::new(16, 31)], "alpha-blocking agents"));
        assert!(matches_mention(&index, &[Span::new(0, 6), Span::new(16, 31)], "alpha- blocking agents"));
        assert!(!matches_mention(&index, &[Span::new(0, 7), Span::new(16, 31)], "alpha-blocking agents"));
        assert!(!matches_mention(&index, &[Span::new(0, 6)], "alpha"));
    }
}
