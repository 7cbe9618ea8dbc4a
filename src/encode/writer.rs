//! Building a marked text from that of a sentence.

use super::Copied;
use crate::corpus::Span;

/// Builds a marked text and records what was copied from where.
pub(super) struct Writer<'a> {
    pub(super) characters: &'a [char],
    romanised: bool,
    pub(super) text: String,
    /// Characters in `text`.
    length: usize,
    pub(super) copied: Vec<Copied>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(characters: &'a [char], romanised: bool) -> Self {
        Self {
            characters,
            romanised,
            text: String::with_capacity(characters.len() + 32),
            length: 0,
            copied: Vec::new(),
        }
    }

    /// Insert text that is not in the sentence; returns its span.
    pub(super) fn insert(&mut self, text: &str) -> Span {
        let start = self.length;
        self.text.push_str(text);
        self.length += text.chars().count();
        Span::new(start, self.length)
    }

    /// Copy characters of the sentence.
    pub(super) fn copy(&mut self, from: usize, to: usize) {
        for original in from..to {
            let character = self.characters[original];
            match romanise(character).filter(|_| self.romanised) {
                Some(letters) if letters.len() != 1 => {
                    self.insert(letters);
                    continue;
                }
                Some(letter) => self.text.push_str(letter),
                None => self.text.push(character),
            }
            let marked = self.length;
            self.length += 1;
            match self.copied.last_mut() {
                Some(last) if last.marked + last.length == marked && last.original + last.length == original => {
                    last.length += 1;
                }
                _ => self.copied.push(Copied { marked, original, length: 1 }),
            }
        }
    }

    /// Write the `part` of the sentence with each of the two spans replaced by its tag, or both by
    /// one tag if they `meet`. Positional tags follow the order of the text, others the arguments.
    pub(super) fn replace(
        &mut self,
        part: Span,
        bounds: [Span; 2],
        tags: &[String; 2],
        meet: fn(&Span, &Span) -> bool,
        positional: bool,
    ) -> [Span; 2] {
        let [one, two] = bounds;
        if meet(&one, &two) {
            let both = one.union(&two);
            self.copy(part.start, both.start);
            let first = if positional { "CHEM" } else { &tags[0] };
            let tag = self.insert(&format!("@{first}-{}$", tags[1]));
            self.copy(both.end, part.end);
            return [tag, tag];
        }
        let swapped = two.start < one.start;
        let (left, right) = if swapped { (two, one) } else { (one, two) };
        let (left_tag, right_tag) = if swapped && !positional { (&tags[1], &tags[0]) } else { (&tags[0], &tags[1]) };
        self.copy(part.start, left.start);
        let left_at = self.insert(&format!("@{left_tag}$"));
        self.copy(left.end, right.start);
        let right_at = self.insert(&format!("@{right_tag}$"));
        self.copy(right.end, part.end);
        if swapped { [right_at, left_at] } else { [left_at, right_at] }
    }

    /// Write the whole sentence with markers around both spans. Each entity's span includes its
    /// markers.
    pub(super) fn surround(&mut self, bounds: [Span; 2]) -> [Span; 2] {
        const OPEN: [&str; 2] = ["[E1] ", "[E2] "];
        const CLOSE: [&str; 2] = [" [/E1]", " [/E2]"];
        // The span that starts first, or extends further from the same start, is the outer one: its marker
        // opens first and, if both end together, closes last. Of two equal spans the first argument's is
        // the outer one.
        let outer_first =
            if (bounds[1].start, bounds[0].end) < (bounds[0].start, bounds[1].end) { [1, 0] } else { [0, 1] };
        let [outer, inner] = outer_first;
        let mut entities = [Span::new(0, 0); 2];
        let mut from = 0;
        let mut positions: Vec<usize> = bounds.iter().flat_map(|bounds| [bounds.start, bounds.end]).collect();
        positions.sort_unstable();
        positions.dedup();
        for position in positions {
            self.copy(from, position);
            from = position;
            for which in [inner, outer] {
                if bounds[which].end == position {
                    entities[which].end = self.insert(CLOSE[which]).end;
                }
            }
            for which in [outer, inner] {
                if bounds[which].start == position {
                    entities[which].start = self.insert(OPEN[which]).start;
                }
            }
        }
        self.copy(from, self.characters.len());
        entities
    }
}

/// BLUE's ASCII for a character; `None` for one that BLUE leaves unchanged, or drops (it is kept
/// here). Nearly all are one letter for one; θ and ψ give two.
fn romanise(character: char) -> Option<&'static str> {
    Some(match character {
        'α' | 'ά' | 'á' => "a",
        'Α' | 'Ά' | 'Å' | 'Ã' => "A",
        'β' | 'ß' => "b",
        'Β' => "B",
        'γ' => "g",
        'Γ' => "G",
        'δ' => "d",
        'Δ' => "D",
        'ε' | 'έ' | 'é' | 'ɛ' | 'ί' => "e",
        'Ε' | 'Έ' | '∑' => "E",
        'ζ' => "z",
        'Ζ' => "Z",
        'η' | 'ή' => "h",
        'Η' | 'Ή' => "H",
        'θ' => "th",
        'Θ' => "TH",
        'ι' | 'ï' => "i",
        'Ι' | 'Ί' => "I",
        'κ' | 'к' => "k",
        'Κ' => "K",
        'λ' => "l",
        'Λ' => "L",
        'μ' | 'µ' | 'ø' => "m",
        'Μ' => "M",
        'ν' => "n",
        'Ν' => "N",
        'ξ' | 'χ' | '\u{e232}' | '\u{e2f6}' => "x",
        'Ξ' | 'Χ' => "X",
        'ο' | 'ό' | 'ö' | 'œ' => "o",
        'Ο' | 'Ό' => "O",
        'π' => "p",
        'Π' => "P",
        'ρ' | '®' => "r",
        'Ρ' => "R",
        'σ' | 'ς' => "s",
        'Σ' => "S",
        'τ' => "t",
        'Τ' | '™' => "T",
        'υ' | 'ÿ' => "y",
        'ύ' | 'ü' => "u",
        'Υ' | 'Ύ' => "Y",
        'φ' | 'ƒ' => "f",
        'Φ' => "F",
        'ψ' => "ps",
        'Ψ' => "PS",
        'ω' | 'ώ' | 'Ω' | 'Ώ' => "w",
        'ç' | '©' => "c",
        '·' | '∗' | '⋅' | '°' | '×' | '•' | '\u{f8ff}' => "*",
        '±' | '⁺' => "+",
        '\u{2002}' | '\u{a0}' | '\u{2009}' | '\u{2005}' | '\u{200a}' => " ",
        '\u{303}' | '∼' | '∞' => "~",
        '…' => ".",
        '″' | '‴' => "\"",
        '´' => "'",
        '⁵' | '₅' => "5",
        '⁷' => "7",
        '⁹' => "9",
        '⁻' | '₋' => "-",
        '₀' => "0",
        '₁' | '¹' => "1",
        '₂' | '²' => "2",
        '₃' | '³' => "3",
        '₄' => "4",
        '→' | '≥' | '≫' | '⩾' => ">",
        '≤' | '↔' | '↓' | '⩽' | '≪' => "<",
        '≈' | '═' | '≃' => "=",
        '〈' => "(",
        '〉' => ")",
        _ => return None,
    })
}
