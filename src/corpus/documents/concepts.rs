//! The database concepts that a field of identifiers names.
//!
//! The field of a composite mention names several: `D006470|D003556` in BC5CDR, `7157,7158` in
//! BioRED, `MESH:D1;MESH:D2` elsewhere. The same separators occur inside single identifiers: tmVar
//! writes a sequence variant as `p|SUB|Q|192|R`, `c|DEL||32` or
//! `rs121913377;HGVS:p.V600E;CorrespondingGene:673`. If these were split, two variants would share
//! the part `R`, and a relation of one would become a relation of the other. So a field is split
//! only if its parts are identifiers, and never if it has a form of tmVar. An argument of a
//! relation is looked up as a whole before its parts are.

use std::collections::{HashMap, HashSet};

use super::document::{Argument, Document, Mention};

/// Separators of the identifiers of a composite mention.
const SEPARATORS: [char; 3] = [';', '|', ','];

/// Values that mean "no identifier".
const NONE: [&str; 7] = ["", "-", "-1", "None", "none", "null", "*"];

/// Keys in tmVar's lists of the properties of one variant.
const VARIANT_KEYS: [&str; 7] =
    ["tmVar:", "HGVS:", "VariantGroup:", "CorrespondingGene:", "CorrespondingSpecies:", "RS#:", "CA#:"];

/// Split the fields of a document's mentions into identifiers. A part counts as an identifier if it
/// has the form of one, or if the file uses it as one (alone, or as an argument of a relation). A
/// field that a relation names as a whole, and none in part, is one identifier: BioRED relates
/// `D017180|D014693`, the ventricular tachycardia of two headings of MeSH, as one concept.
pub(super) fn split_fields(fields: &[String], arguments: &[&str]) -> Vec<Vec<String>> {
    let used: HashSet<&str> = fields.iter().map(|field| field.trim()).chain(arguments.iter().copied()).collect();
    let named: HashSet<&str> = arguments.iter().map(|argument| argument.trim()).collect();
    let of = |field: &String| {
        let parts = split(field, &|part| used.contains(part));
        let whole = field.trim();
        match named.contains(whole) && !parts.iter().any(|part| part != whole && named.contains(part.as_str())) {
            true if !parts.is_empty() => vec![whole.to_owned()],
            _ => parts,
        }
    };
    fields.iter().map(of).collect()
}

/// The identifiers of one field.
fn split(field: &str, used: &dyn Fn(&str) -> bool) -> Vec<String> {
    let field = field.trim();
    if NONE.contains(&field) {
        return Vec::new();
    }
    let unique = |parts: Vec<&str>| -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for part in parts.into_iter().filter(|part| !NONE.contains(part)) {
            if !found.iter().any(|known| known == part) {
                found.push(part.to_owned());
            }
        }
        found
    };
    if is_variant(field) {
        // A list of variants is split; a list of the properties of one variant is not.
        let parts: Vec<&str> = field.split([';', ',']).map(str::trim).collect();
        let several = parts.iter().all(|part| is_piped_variant(part));
        return if several { unique(parts) } else { vec![field.to_owned()] };
    }
    let parts: Vec<&str> = field.split(SEPARATORS).map(str::trim).collect();
    let composite = parts.iter().any(|part| !NONE.contains(part) && used(part))
        || parts.iter().all(|part| NONE.contains(part) || is_accession(part));
    if composite { unique(parts) } else { vec![field.to_owned()] }
}

/// Whether a field is one variant or a list of them, in a form of tmVar.
fn is_variant(field: &str) -> bool {
    is_piped_variant(field)
        || VARIANT_KEYS.iter().any(|key| field.split(';').any(|part| part.trim_start().starts_with(key)))
}

/// `p|SUB|Q|192|R`, `c|Allele|K|223`, `|DEL|5|A`: the type of sequence in at most one letter, the
/// change, its position.
fn is_piped_variant(field: &str) -> bool {
    let Some((sequence, rest)) = field.split_once('|') else { return false };
    sequence.chars().count() <= 1
        && !sequence.starts_with(|c: char| c.is_numeric())
        && rest.starts_with(|c: char| c.is_alphabetic())
}

/// `D006470`, `MESH:D006470`, `7157`, `rs1052133`, `CVCL_0224`, `GO:0006915`: a word with a digit
/// in it.
fn is_accession(part: &str) -> bool {
    part.chars().any(|c| c.is_ascii_digit())
        && part.chars().all(|c| c.is_alphanumeric() || matches!(c, ':' | '_' | '.' | '-' | '+' | '/' | '#'))
}

/// A concept of a document: the mentions of one type with one identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concept {
    /// The identifier; `@start-end` for a mention without one, which is a concept of its own.
    pub name: String,
    /// The type of its mentions. Where mentions of two types have one identifier, each type has its
    /// own concept, so that a concept has one set of partners.
    pub entity_type: String,
    /// Indices in [`Document::mentions`], in the order of the text. A composite mention refers to
    /// several concepts.
    pub mentions: Vec<usize>,
}

impl Document {
    /// The concepts in the order of their first mentions.
    pub fn concepts(&self) -> Vec<Concept> {
        let mut concepts: Vec<Concept> = Vec::new();
        let mut numbers: HashMap<(String, &str), usize> = HashMap::new();
        for index in self.in_text_order() {
            let entity_type = self.mentions[index].entity_type.as_str();
            for name in self.concepts_of(index) {
                let number = *numbers.entry((name.clone(), entity_type)).or_insert_with(|| {
                    concepts.push(Concept { name, entity_type: entity_type.to_owned(), mentions: Vec::new() });
                    concepts.len() - 1
                });
                concepts[number].mentions.push(index);
            }
        }
        concepts
    }

    /// The mentions' indices by where they start; of mentions that start together, the longest
    /// comes first.
    pub(super) fn in_text_order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.mentions.len()).collect();
        order.sort_by_key(|&index| {
            let bounds = self.mentions[index].bounding_span();
            (bounds.start, std::cmp::Reverse(bounds.end))
        });
        order
    }

    /// The concepts that an argument of a relation names, by the rules of [`Document::mentions_of`]:
    /// one, or those of a list. If it names no mention, it is the argument itself.
    pub fn concepts_named(&self, argument: &Argument) -> Vec<String> {
        match argument {
            Argument::Mention(index) => self.concepts_of(*index),
            Argument::Concept(name) => match self.resolve(name) {
                Some((names, _)) => names,
                None => vec![name.trim().to_owned()],
            },
        }
    }

    /// Split the identifier of every mention that has exactly one.
    pub(super) fn split_single_identifiers(&mut self) {
        let field = |mention: &Mention| match mention.identifiers.as_slice() {
            [only] => only.clone(),
            _ => String::new(),
        };
        let fields: Vec<String> = self.mentions.iter().map(field).collect();
        let named =
            self.relations.iter().flat_map(|relation| &relation.arguments).filter_map(|argument| match argument {
                Argument::Concept(name) => Some(name.as_str()),
                Argument::Mention(_) => None,
            });
        let split = split_fields(&fields, &named.collect::<Vec<_>>());
        for (mention, identifiers) in self.mentions.iter_mut().zip(split).filter(|(_, found)| !found.is_empty()) {
            mention.identifiers = identifiers;
        }
    }

    /// The mentions that an argument of a relation names: those with this identifier; else those
    /// with the identifier after the type, as in PubTator's `Chemical|MESH:D001241`; else, if the
    /// argument is a list, those with all identifiers of the list.
    pub(super) fn mentions_of(&self, argument: &str) -> Vec<usize> {
        self.resolve(argument).map(|(_, mentions)| mentions).unwrap_or_default()
    }

    /// The concepts that an argument names and the mentions that have all of them; `None` without
    /// such a mention.
    fn resolve(&self, argument: &str) -> Option<(Vec<String>, Vec<usize>)> {
        let with = |wanted: &[String]| -> Vec<usize> {
            let has_all = |identifiers: &[String]| wanted.iter().all(|one| identifiers.contains(one));
            let mentions = self.mentions.iter().enumerate();
            let found = mentions.filter(|(_, mention)| !wanted.is_empty() && has_all(&mention.identifiers));
            found.map(|(index, _)| index).collect()
        };
        let known = |part: &str| self.mentions.iter().any(|mention| mention.identifiers.iter().any(|one| one == part));
        let argument = argument.trim();
        let bare = argument.split_once('|').map_or("", |(_, bare)| bare);
        let wholes = [argument, bare].map(|whole| vec![whole.to_owned()]);
        let lists = [argument, bare].map(|list| split(list, &known));
        let tried = wholes.into_iter().chain(lists).map(|wanted| (with(&wanted), wanted));
        tried.map(|(mentions, names)| (names, mentions)).find(|(_, mentions)| !mentions.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(fields: &[&str], arguments: &[&str]) -> Vec<Vec<String>> {
        let fields: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
        split_fields(&fields, arguments)
    }

    #[test]
    fn composite_mentions_are_split() {
        let found = fields(&["D006470|D003556", "7157,7158", "MESH:D000001; MESH:D000002", "D1|-|D1", "-", ""], &[]);
        let expected: [&[&str]; 6] =
            [&["D006470", "D003556"], &["7157", "7158"], &["MESH:D000001", "MESH:D000002"], &["D1"], &[], &[]];
        assert_eq!(found, expected);
        // A word without a digit is an identifier if the file uses it as one.
        assert_eq!(fields(&["fever;cough"], &[]), [["fever;cough"]]);
        assert_eq!(fields(&["fever;cough"], &["cough"]), [["fever", "cough"]]);
        // One that relations name as a whole, and not in part, is not split.
        assert_eq!(fields(&["D017180|D014693"], &["D017180|D014693"]), [["D017180|D014693"]]);
        assert_eq!(fields(&["D1|D2"], &["D1|D2", "D2"]), [["D1", "D2"]]);
        assert_eq!(fields(&["fever;cough", "fever"], &[]), [vec!["fever", "cough"], vec!["fever"]]);
    }

    #[test]
    fn variants_are_one_identifier() {
        for variant in [
            "p|SUB|Q|192|R",
            "c|Allele|K|223",
            "p|Allele|R|192",
            "c|DEL||32",
            "c|DEL888|C",
            "g|SUB|G|135|C",
            "|SUB|A|5|G",
            "c|INS|1,5|T",
            "rs121913377;HGVS:p.V600E;CorrespondingGene:673",
            "tmVar:p|SUB|V|600|E;HGVS:p.V600E;VariantGroup:0;CorrespondingGene:673;RS#:113488022",
        ] {
            assert_eq!(fields(&[variant, "R", "5"], &["192", "32"])[0], [variant]);
        }
        assert_eq!(fields(&["p|SUB|A|1|T,p|SUB|G|2|R"], &[]), [["p|SUB|A|1|T", "p|SUB|G|2|R"]]);
        assert_eq!(fields(&["rs1;rs2"], &[]), [["rs1", "rs2"]]);
    }
}
