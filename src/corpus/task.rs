//! The task of a corpus, and how the field scores it: labels, negative label, averaging, candidate
//! pairs, words of the tags.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

use super::Candidates;
use crate::{Error, Result};

/// Which labels a score covers, and how it is averaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Averaging {
    /// Any relation against none, whatever its type (AIMed).
    Binary,
    /// Over all decisions for the positive labels, as the paper does for DDI and ChemProt.
    Micro,
    /// Mean of the positive labels' scores.
    Macro,
    /// Mean of all labels' scores, the negative one included.
    MacroAll,
}

/// The text in which the two arguments of a pair are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, IntoStaticStr, VariantArray)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Scope {
    /// A sentence: a pair joins two mentions.
    #[default]
    Sentence,
    /// A document: a pair joins two concepts, with all their mentions.
    Document,
}

named!(Scope, "scope");

impl Scope {
    fn is_sentence(&self) -> bool {
        *self == Self::Sentence
    }
}

/// [`Task::max_mentions`] unless the user says otherwise.
pub const MAX_MENTIONS: usize = 4;

fn max_mentions() -> usize {
    MAX_MENTIONS
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_usual(max_mentions: &usize) -> bool {
    *max_mentions == MAX_MENTIONS
}

/// What is classified about a pair, and how the field scores it.
///
/// It is saved with a model: it has all that prediction on new sentences needs of the corpus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// `ppi`, `ddi`, `chemprot`, `biored`, ..., or the name of the user's table.
    pub name: String,
    /// All labels in a fixed order.
    pub labels: Vec<String>,
    /// Index of the label that means "no relation", if the task has one.
    pub negative: Option<usize>,
    /// How the main score is averaged.
    pub averaging: Averaging,
    /// Which pairs of entity types form candidates.
    pub candidates: Candidates,
    /// The text in which the two arguments of a pair are.
    #[serde(default, skip_serializing_if = "Scope::is_sentence")]
    pub scope: Scope,
    /// At document scope, how many mentions of each concept a pair has at most: the nearest.
    #[serde(default = "max_mentions", skip_serializing_if = "is_usual")]
    pub max_mentions: usize,
    /// The word of each entity type's tag: `GENE-Y` -> `GENE` gives `@GENE$`.
    pub tags: BTreeMap<String, String>,
    /// A user's names for the columns of the table that trains, so that prediction reads the same
    /// columns.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, String>,
}

impl Task {
    /// A task with the usual averaging: binary for two labels of which one is negative, else micro
    /// over the positives. All entity pairs are candidates and every type is its own tag until
    /// [`Task::candidates`] and [`Task::tags`] say otherwise.
    ///
    /// # Errors
    /// [`Error::Config`] for fewer than two labels, the same label twice, or a negative label that
    /// is not one of them.
    pub fn new(name: impl Into<String>, labels: Vec<String>, negative: Option<&str>) -> Result<Self> {
        if labels.len() < 2 {
            return Err(Error::config("labels", format!("a task needs two labels or more, not {}", labels.len())));
        }
        for (index, label) in labels.iter().enumerate() {
            if labels[..index].contains(label) {
                return Err(Error::config("labels", format!("`{label}` appears twice")));
            }
        }
        let negative = match negative {
            None => None,
            Some(name) => Some(labels.iter().position(|label| label == name).ok_or_else(|| {
                Error::config("negative", format!("`{name}` is not one of the labels: {}", labels.join(", ")))
            })?),
        };
        let averaging = if labels.len() == 2 && negative.is_some() { Averaging::Binary } else { Averaging::Micro };
        Ok(Self {
            name: name.into(),
            labels,
            negative,
            averaging,
            candidates: Candidates::default(),
            scope: Scope::Sentence,
            max_mentions: MAX_MENTIONS,
            tags: BTreeMap::new(),
            columns: BTreeMap::new(),
        })
    }

    /// Protein-protein interaction: `negative`, `positive`; any two proteins.
    pub fn ppi() -> Self {
        Self {
            name: "ppi".into(),
            labels: names(&["negative", "positive"]),
            negative: Some(0),
            averaging: Averaging::Binary,
            candidates: Candidates::among(&["protein"]),
            scope: Scope::Sentence,
            max_mentions: MAX_MENTIONS,
            tags: tags(&[("protein", "PROTEIN")]),
            columns: BTreeMap::new(),
        }
    }

    /// Drug-drug interaction: `false` and four positive classes; any two drugs of the four types.
    pub fn ddi() -> Self {
        let types = ["drug", "brand", "group", "drug_n"];
        Self {
            name: "ddi".into(),
            labels: names(&["false", "mechanism", "effect", "advise", "int"]),
            negative: Some(0),
            averaging: Averaging::Micro,
            candidates: Candidates::among(&types),
            scope: Scope::Sentence,
            max_mentions: MAX_MENTIONS,
            tags: tags(&types.map(|entity_type| (entity_type, "DRUG"))),
            columns: BTreeMap::new(),
        }
    }

    /// ChemProt: `false` and the five scored groups; a chemical first, a gene or protein second.
    pub fn chemprot() -> Self {
        let genes = ["GENE-N", "GENE-Y", "GENE"];
        let mut tags = tags(&genes.map(|entity_type| (entity_type, "GENE")));
        tags.insert("CHEMICAL".into(), "CHEMICAL".into());
        Self {
            name: "chemprot".into(),
            labels: names(&["false", "CPR:3", "CPR:4", "CPR:5", "CPR:6", "CPR:9"]),
            negative: Some(0),
            averaging: Averaging::Micro,
            candidates: Candidates::between(&["CHEMICAL"], &genes),
            scope: Scope::Sentence,
            max_mentions: MAX_MENTIONS,
            tags,
            columns: BTreeMap::new(),
        }
    }

    /// BioRED: `none` and eight relations; the eight pairs of types between which its guidelines
    /// define relations. They have no direction.
    pub fn biored() -> Self {
        let [gene, disease, chemical, variant] =
            ["GeneOrGeneProduct", "DiseaseOrPhenotypicFeature", "ChemicalEntity", "SequenceVariant"];
        let pairs = [
            (disease, gene),
            (disease, variant),
            (gene, gene),
            (chemical, gene),
            (chemical, disease),
            (chemical, variant),
            (chemical, chemical),
            (variant, variant),
        ];
        let labels = [
            "none",
            "Association",
            "Positive_Correlation",
            "Negative_Correlation",
            "Bind",
            "Cotreatment",
            "Comparison",
            "Drug_Interaction",
            "Conversion",
        ];
        let tags = tags(&[
            (gene, "GENE"),
            (disease, "DISEASE"),
            (chemical, "CHEMICAL"),
            (variant, "VARIANT"),
            ("OrganismTaxon", "ORGANISM"),
            ("CellLine", "CELL_LINE"),
        ]);
        Self::of_documents("biored", &labels, &pairs, tags)
    }

    /// BC5CDR: `none` and `CID`, a disease that a chemical induces.
    pub fn bc5cdr() -> Self {
        Self::of_documents("bc5cdr", &["none", "CID"], &[("Chemical", "Disease")], BTreeMap::new())
    }

    /// DrugProt: `none` and thirteen relations; a chemical first, a gene or protein second.
    pub fn drugprot() -> Self {
        let labels = [
            "none",
            "INDIRECT-DOWNREGULATOR",
            "INDIRECT-UPREGULATOR",
            "DIRECT-REGULATOR",
            "ACTIVATOR",
            "INHIBITOR",
            "AGONIST",
            "ANTAGONIST",
            "AGONIST-ACTIVATOR",
            "AGONIST-INHIBITOR",
            "PRODUCT-OF",
            "SUBSTRATE",
            "SUBSTRATE_PRODUCT-OF",
            "PART-OF",
        ];
        let genes = ["GENE-N", "GENE-Y", "GENE"];
        let tags = tags(&genes.map(|entity_type| (entity_type, "GENE")));
        Self::of_documents("drugprot", &labels, &genes.map(|gene| ("CHEMICAL", gene)), tags)
    }

    /// A task of a corpus of documents: the first label is negative; with more than one positive
    /// label the score is micro-averaged.
    fn of_documents(name: &str, labels: &[&str], pairs: &[(&str, &str)], tags: BTreeMap<String, String>) -> Self {
        let averaging = if labels.len() == 2 { Averaging::Binary } else { Averaging::Micro };
        let rules = pairs.iter().map(|(first, second)| (names(&[first]), names(&[second]))).collect();
        let (labels, candidates) = (names(labels), Candidates { rules });
        Self {
            name: name.into(),
            labels,
            negative: Some(0),
            averaging,
            candidates,
            scope: Scope::Sentence,
            max_mentions: MAX_MENTIONS,
            tags,
            columns: BTreeMap::new(),
        }
    }

    /// Index of a label.
    pub fn label(&self, name: &str) -> Option<usize> {
        self.labels.iter().position(|label| label == name)
    }

    /// Indices of all labels but the negative one.
    pub fn positives(&self) -> Vec<usize> {
        (0..self.labels.len()).filter(|&index| Some(index) != self.negative).collect()
    }

    /// The word of an entity type's tag: as the task declares it, else the type in capitals.
    pub fn tag(&self, entity_type: &str) -> String {
        match self.tags.get(entity_type) {
            Some(tag) => tag.clone(),
            None if entity_type.is_empty() => "ENTITY".into(),
            None => {
                entity_type.chars().map(|c| if c.is_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
            }
        }
    }

    /// The tags of the entity types that form candidate pairs, sorted; empty if any type does.
    /// They number the types for levitated markers.
    pub fn type_tags(&self) -> Vec<String> {
        let types = self.candidates.rules.iter().flat_map(|(first, second)| first.iter().chain(second));
        let tags: BTreeSet<String> = types.map(|entity_type| self.tag(entity_type)).collect();
        tags.into_iter().collect()
    }

    /// The number of an entity type among [`Task::type_tags`], 0 if any type forms pairs; `None`
    /// for another type.
    pub fn type_number(&self, entity_type: &str) -> Option<u32> {
        let tags = self.type_tags();
        let tag = self.tag(entity_type);
        if tags.is_empty() { Some(0) } else { tags.iter().position(|known| *known == tag).map(|at| at as u32) }
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn tags(tags: &[(&str, &str)]) -> BTreeMap<String, String> {
    tags.iter().map(|(entity_type, tag)| ((*entity_type).to_owned(), (*tag).to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_come_from_the_task_or_from_the_type() {
        assert_eq!(Task::chemprot().tag("GENE-Y"), "GENE");
        assert_eq!(Task::ddi().tag("brand"), "DRUG");
        assert_eq!(Task::ddi().tag("cell line"), "CELL_LINE");
        assert_eq!(Task::ppi().tag(""), "ENTITY");
    }

    #[test]
    fn invalid_tasks_are_refused() {
        let labels = |names: &[&str]| super::names(names);
        assert!(Task::new("t", labels(&["a"]), None).is_err());
        assert!(Task::new("t", labels(&["a", "a"]), None).is_err());
        assert!(Task::new("t", labels(&["a", "b"]), Some("c")).is_err());
        let task = Task::new("t", labels(&["a", "b"]), None).unwrap();
        assert_eq!(task.averaging, Averaging::Micro);
    }

    #[test]
    fn a_task_comes_back_from_json() {
        let json = serde_json::to_string(&Task::chemprot()).unwrap();
        assert_eq!(serde_json::from_str::<Task>(&json).unwrap(), Task::chemprot());
    }
}
