//! A BioC document as in its XML or JSON file, before offsets and identifiers are interpreted.

/// Infons of an annotation that may name its concept, in the order in which they are tried.
const CONCEPT_KEYS: [&str; 12] = [
    "identifier",
    "Identifier",
    "concept_id",
    "normalized_id",
    "MESH",
    "MeSH",
    "NCBI_Gene",
    "NCBI GENE",
    "NCBI Gene",
    "OMIM",
    "ChEBI",
    "NCBI_Taxonomy",
];

/// A document in the structure of BioC.
#[derive(Default)]
pub(super) struct Bioc {
    pub(super) id: String,
    pub(super) passages: Vec<BiocPassage>,
    pub(super) annotations: Vec<Annotation>,
    pub(super) relations: Vec<BiocRelation>,
}

/// A passage with its own text, or a sentence.
pub(super) struct BiocPassage {
    pub(super) passage_type: String,
    pub(super) offset: usize,
    pub(super) text: String,
    pub(super) sentence: bool,
    /// Whether its sentences have the same text, so that this passage is not part of the document.
    pub(super) duplicate: bool,
}

pub(super) struct Annotation {
    pub(super) id: String,
    pub(super) infons: Vec<(String, String)>,
    /// Offset and length.
    pub(super) segments: Vec<(usize, usize)>,
    pub(super) text: Option<String>,
    /// The passage in which it is listed.
    pub(super) passage: Option<usize>,
    /// Its byte offset in the record, for messages.
    pub(super) at: usize,
}

impl Annotation {
    pub(super) fn infon(&self, key: &str) -> Option<&str> {
        self.infons.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// The field of its concepts; empty if it names none.
    pub(super) fn concept_field(&self) -> String {
        CONCEPT_KEYS.iter().find_map(|key| self.infon(key)).unwrap_or_default().to_owned()
    }
}

pub(super) struct BiocRelation {
    pub(super) id: String,
    pub(super) infons: Vec<(String, String)>,
    pub(super) nodes: Vec<String>,
    pub(super) at: usize,
}
