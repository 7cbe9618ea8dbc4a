//! Where the annotations of a BioC document are, whatever its offsets count.
//!
//! They should count the characters of the document. Found in published files, and taken back to characters where that
//! makes every annotation of a document, or of a passage, fit its text:
//!
//! * UTF-16 code units or UTF-8 bytes;
//! * characters of the *escaped* XML (`&apos;` is six), in the offsets of passages (BC5CDR's official release), in those of
//!   annotations, or in both;
//! * one location over a mention in several segments;
//! * an annotation that stands in another passage than its offsets.

use super::bioc_record::{Annotation, Bioc};
use crate::corpus::Span;
use crate::corpus::documents::offsets::{APART, Converter, OffsetUnit, written};

/// The annotations in their passages, and what was read otherwise than the file says.
pub(super) struct Locations {
    /// For each annotation.
    pub(super) found: Vec<Location>,
    /// For each passage, where it starts in characters.
    pub(super) starts: Vec<usize>,
    /// What the offsets count, if not characters.
    pub(super) reason: Option<&'static str>,
}

/// Where an annotation is.
pub(super) enum Location {
    /// In a passage, at these characters of it; why it was not read as it stands.
    At(usize, Vec<Span>, Option<&'static str>),
    /// The file does not say.
    Nowhere,
    /// Not where the file says.
    Wrong(String),
}

/// How the offsets of a passage's annotations are read.
#[derive(Clone, Copy)]
struct Reading {
    /// From where they count.
    base: usize,
    /// What they count.
    unit: OffsetUnit,
    /// What lengths count.
    lengths: OffsetUnit,
    /// Whether one location may hold a mention in several segments.
    apart: bool,
}

/// The texts of all passages, by characters and by another unit.
struct Texts<'a> {
    characters: Vec<Converter<'a>>,
    /// Empty where the unit is characters.
    counted: Vec<Converter<'a>>,
}

impl<'a> Texts<'a> {
    fn new(bioc: &'a Bioc, unit: OffsetUnit) -> Self {
        let all = |unit| bioc.passages.iter().map(|passage| Converter::new(&passage.text, unit)).collect();
        Self {
            characters: all(OffsetUnit::Characters),
            counted: if unit == OffsetUnit::Characters { vec![] } else { all(unit) },
        }
    }

    fn of(&self, passage: usize, unit: OffsetUnit) -> &Converter<'a> {
        if unit == OffsetUnit::Characters { &self.characters[passage] } else { &self.counted[passage] }
    }
}

pub(super) fn locate(bioc: &Bioc) -> Locations {
    let ascii = bioc.passages.iter().all(|passage| passage.text.is_ascii());
    let all = |unit: OffsetUnit| -> Vec<Location> {
        let readings: Vec<Reading> = bioc
            .passages
            .iter()
            .map(|passage| Reading { base: passage.offset, unit, lengths: unit, apart: false })
            .collect();
        let texts = Texts::new(bioc, unit);
        bioc.annotations.iter().map(|annotation| place(bioc, &texts, annotation, &readings, false)).collect()
    };
    let fits = |places: &[Location]| !places.iter().any(|place| matches!(place, Location::Wrong(_)));
    let found = all(OffsetUnit::Characters);
    if fits(&found) {
        return Locations { found, starts: starts(bioc, OffsetUnit::Characters), reason: None };
    }
    for unit in [OffsetUnit::Utf16, OffsetUnit::Bytes].into_iter().filter(|_| !ascii) {
        let found = all(unit);
        if fits(&found) {
            return Locations { found, starts: starts(bioc, unit), reason: unit.reason() };
        }
    }
    for unit in OffsetUnit::ESCAPED {
        let texts = Texts::new(bioc, unit);
        let Some((readings, escaped)) = readings(bioc, &texts, unit) else { continue };
        let found: Vec<Location> =
            bioc.annotations.iter().map(|annotation| place(bioc, &texts, annotation, &readings, true)).collect();
        if fits(&found) {
            let moved = starts(bioc, unit);
            // Where only annotations count so, passages are where the file says: they would overlap else.
            let starts = if escaped && are_apart(bioc, &moved) { moved } else { starts(bioc, OffsetUnit::Characters) };
            let reason = unit.reason().filter(|_| escaped);
            return Locations { found, starts, reason };
        }
    }
    Locations { found, starts: starts(bioc, OffsetUnit::Characters), reason: None }
}

/// For each passage the first reading under which all its annotations fit, and whether one of them counts escaped
/// characters; `None` if there is a passage that none fits.
fn readings(bioc: &Bioc, texts: &Texts, unit: OffsetUnit) -> Option<(Vec<Reading>, bool)> {
    let surplus = surplus(bioc, unit);
    let mut escaped = false;
    let mut chosen = Vec::with_capacity(bioc.passages.len());
    for (number, passage) in bioc.passages.iter().enumerate() {
        let own: Vec<&Annotation> =
            bioc.annotations.iter().filter(|annotation| annotation.passage == Some(number)).collect();
        let bases = [
            Some(passage.offset),
            passage.offset.checked_sub(surplus[number]),
            passage.offset.checked_add(surplus[number]),
        ];
        let counts = [(OffsetUnit::Characters, OffsetUnit::Characters), (unit, OffsetUnit::Characters), (unit, unit)];
        // As the file says first, then whatever differs least from it.
        let tried = [false, true].into_iter().flat_map(|apart| {
            bases.into_iter().flatten().flat_map(move |base| {
                counts.into_iter().map(move |(unit, lengths)| Reading { base, unit, lengths, apart })
            })
        });
        // An annotation of another passage does not speak against a reading, if others speak for it.
        let fits = |reading: &Reading, strict: bool| {
            let mut some = own.is_empty();
            let all = own.iter().all(|annotation| {
                let fits = annotation.segments.is_empty() || fit(texts, annotation, number, *reading).is_some();
                some |= fits;
                fits || (!strict && is_outside(bioc, annotation, number, *reading))
            });
            all && some
        };
        let tried: Vec<Reading> = tried.collect();
        let reading =
            [true, false].into_iter().find_map(|strict| tried.iter().find(|reading| fits(reading, strict)))?;
        escaped |= reading.base != passage.offset || reading.unit != OffsetUnit::Characters;
        chosen.push(*reading);
    }
    Some((chosen, escaped))
}

/// An annotation in its own passage, or, where that only holds sentences, in the sentence that fits. `anywhere`: in
/// another passage, if it does not fit its own.
fn place(bioc: &Bioc, texts: &Texts, annotation: &Annotation, readings: &[Reading], anywhere: bool) -> Location {
    if annotation.segments.is_empty() {
        return Location::Nowhere;
    }
    let all = 0..bioc.passages.len();
    let homes: Vec<usize> = match annotation.passage {
        Some(passage) => vec![passage],
        None => all.clone().collect(),
    };
    let others = all.filter(|passage| anywhere && !homes.contains(passage) && !bioc.passages[*passage].duplicate);
    for home in homes.iter().copied().chain(others) {
        if let Some((spans, apart)) = fit(texts, annotation, home, readings[home]) {
            let reason = match (apart, homes.contains(&home)) {
                (true, _) => Some(APART),
                (false, false) => Some("an annotation of another passage than that of its offsets, which count"),
                _ => None,
            };
            return Location::At(home, spans, reason);
        }
    }
    let segments: Vec<(usize, usize)> =
        annotation.segments.iter().map(|&(offset, length)| (offset, offset.saturating_add(length))).collect();
    let found = match homes.as_slice() {
        [home] => match within(texts, annotation, *home, readings[*home]) {
            Some(segments) => texts.of(*home, readings[*home].lengths).found(&segments),
            None => format!("which is before its passage, which starts at {}", bioc.passages[*home].offset),
        },
        _ => "which fits no passage".to_owned(),
    };
    let text = text_of(annotation).map(|text| format!(", but its text is `{text}`")).unwrap_or_default();
    Location::Wrong(format!("has offsets {}, {found}{text}", written(&segments)))
}

fn text_of(annotation: &Annotation) -> Option<&str> {
    annotation.text.as_deref().filter(|text| !text.is_empty())
}

/// The segments of an annotation from the start of a passage, starts in the unit of the reading and ends in characters
/// where lengths count those; `None` before the passage.
fn within(texts: &Texts, annotation: &Annotation, passage: usize, reading: Reading) -> Option<Vec<(usize, usize)>> {
    let converter = texts.of(passage, reading.unit);
    let segment = |&(offset, length): &(usize, usize)| {
        let start = offset.checked_sub(reading.base)?;
        if reading.lengths == reading.unit {
            return Some((start, start.checked_add(length)?));
        }
        let start = converter.character(start)?;
        Some((start, start.checked_add(length)?))
    };
    annotation.segments.iter().map(segment).collect()
}

/// The characters of a passage where an annotation is, and whether they are segments of its one location.
fn fit(texts: &Texts, annotation: &Annotation, passage: usize, reading: Reading) -> Option<(Vec<Span>, bool)> {
    let segments = within(texts, annotation, passage, reading)?;
    let converter = texts.of(passage, reading.lengths);
    let text = text_of(annotation);
    if let Some(spans) = converter.fit(&segments, text) {
        return Some((spans, false));
    }
    let ([segment], Some(text), true) = (segments.as_slice(), text, reading.apart) else { return None };
    converter.fit_apart(*segment, text).map(|spans| (spans, true))
}

/// Whether the offsets of an annotation are not of this passage at all.
fn is_outside(bioc: &Bioc, annotation: &Annotation, passage: usize, reading: Reading) -> bool {
    let length = reading.unit.length(&bioc.passages[passage].text);
    annotation.segments.iter().all(|(offset, _)| offset.checked_sub(reading.base).is_none_or(|start| start >= length))
}

/// For each passage, by how much its predecessors are longer in a unit than in characters.
fn surplus(bioc: &Bioc, unit: OffsetUnit) -> Vec<usize> {
    let mut order: Vec<usize> = (0..bioc.passages.len()).collect();
    order.sort_by_key(|&index| (bioc.passages[index].offset, index));
    let (mut before, mut sum) = (vec![0; bioc.passages.len()], 0);
    for index in order {
        let passage = &bioc.passages[index];
        before[index] = sum;
        if !passage.duplicate {
            sum += unit.length(&passage.text) - OffsetUnit::Characters.length(&passage.text);
        }
    }
    before
}

/// Where each passage starts, in characters: earlier by what its predecessors have more in the unit of the file.
fn starts(bioc: &Bioc, unit: OffsetUnit) -> Vec<usize> {
    let earlier = surplus(bioc, unit);
    bioc.passages.iter().zip(earlier).map(|(passage, earlier)| passage.offset.saturating_sub(earlier)).collect()
}

/// Whether no passage reaches into the next one.
fn are_apart(bioc: &Bioc, starts: &[usize]) -> bool {
    let passages = bioc.passages.iter().zip(starts).filter(|(passage, _)| !passage.duplicate);
    let mut places: Vec<(usize, usize)> =
        passages.map(|(passage, &start)| (start, start + OffsetUnit::Characters.length(&passage.text))).collect();
    places.sort_unstable();
    places.windows(2).all(|pair| pair[0].1 <= pair[1].0)
}
