//! Formats whose offsets count from the start of one text: the entities of a document are located in
//! it together, in the unit that fits all of them.

use super::super::document::{Document, Mention};
use super::super::offsets::{Converter, DISCONTINUOUS, OffsetUnit, written};
use crate::corpus::offsets::CharIndex;
use crate::corpus::{FindingKind, Span};

/// An entity as a file states it.
pub(super) struct Stated {
    pub(super) id: String,
    pub(super) entity_type: String,
    /// First and one past the last position of each segment.
    pub(super) segments: Vec<(usize, usize)>,
    /// `None` if the file has no text to check the offsets with.
    pub(super) text: Option<String>,
    pub(super) identifiers: Vec<String>,
}

/// Add entities to a document that has its passages. `units` are the units that offsets may count,
/// in the order in which they are tried. The error is the index of the first entity that does not
/// fit, and why.
pub(super) fn place(
    document: &mut Document,
    entities: Vec<Stated>,
    units: &[OffsetUnit],
) -> Result<(), (usize, String)> {
    let text = document.text();
    let fits = |unit: OffsetUnit| -> Vec<Option<Vec<Span>>> {
        let converter = Converter::new(&text, unit);
        entities.iter().map(|one| converter.fit(&one.segments, one.text.as_deref())).collect()
    };
    let found = units.iter().map(|&unit| (unit, fits(unit))).find(|(_, spans)| !spans.contains(&None));
    let (unit, mut found) = found.unwrap_or_else(|| (units[0], fits(units[0])));
    if let Some(reason) = unit.reason().filter(|_| !text.is_ascii()) {
        document.note(FindingKind::Repaired, "offsets", reason);
    }
    let converter = Converter::new(&text, unit);
    for (number, (one, spans)) in entities.iter().zip(&mut found).enumerate() {
        if let (None, [segment], Some(stated)) = (&spans, one.segments.as_slice(), &one.text) {
            *spans = converter.fit_discontinuous(*segment, stated);
            if spans.is_some() {
                document.note(FindingKind::Repaired, &one.id, DISCONTINUOUS);
            }
        }
        if spans.is_none() {
            let stated = one.text.as_ref().map(|text| format!(", but its text is `{text}`")).unwrap_or_default();
            let found = converter.found(&one.segments);
            let message = format!("entity {} has offsets {}, {found}{stated}", one.id, written(&one.segments));
            return Err((number, message));
        }
    }
    let index = CharIndex::new(&text);
    for (one, spans) in entities.into_iter().zip(found) {
        let Some(spans) = spans else { continue };
        let bounds = Span::bounding(&spans);
        let passage = document.passages.iter().position(|passage| passage.slice(bounds).is_some());
        let slice = || spans.iter().filter_map(|&span| index.slice(span)).collect::<Vec<_>>().join(" ");
        let text = one.text.unwrap_or_else(slice);
        let Stated { id, entity_type, identifiers, .. } = one;
        document.mentions.push(Mention { id, entity_type, text, identifiers, spans, passage });
    }
    Ok(())
}
