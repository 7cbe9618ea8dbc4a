//! Candidate pairs: which pairs of mentions are classified in new sentences, and in corpora that
//! list no pairs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Sentence;

/// The pairs of entity types between which a relation is possible.
///
/// Each rule lists the types of the first and of the second argument. Without a rule, any two
/// mentions form a candidate pair.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidates {
    /// Types allowed as first and as second argument, rule by rule.
    pub rules: Vec<(Vec<String>, Vec<String>)>,
}

impl Candidates {
    /// Any two mentions of these types.
    pub fn among(types: &[&str]) -> Self {
        Self::between(types, types)
    }

    /// A mention of one of the first types with one of the second types.
    pub fn between(first: &[&str], second: &[&str]) -> Self {
        let owned = |types: &[&str]| types.iter().map(|entity_type| (*entity_type).to_owned()).collect();
        Self { rules: vec![(owned(first), owned(second))] }
    }

    /// Whether a mention of type `first` and one of type `second`, in this order, form a candidate
    /// pair.
    pub fn allow(&self, first: &str, second: &str) -> bool {
        let contains = |types: &[String], entity_type: &str| types.iter().any(|known| known == entity_type);
        self.rules.is_empty() || self.rules.iter().any(|(a, b)| contains(a, first) && contains(b, second))
    }

    /// Whether mentions of this type can be in a candidate pair.
    pub fn includes(&self, entity_type: &str) -> bool {
        self.rules.is_empty() || self.rules.iter().any(|(a, b)| a.iter().chain(b).any(|known| known == entity_type))
    }

    /// The number of candidate pairs of a sentence. They are not listed for it: a thousand mentions
    /// form half a million.
    pub fn count(&self, sentence: &Sentence) -> usize {
        self.count_of_types(sentence.entities.iter().map(|entity| entity.entity_type.as_str()))
    }

    /// The number of candidate pairs of a sentence whose mentions have these types.
    pub fn count_of_types<'a>(&self, mentions: impl Iterator<Item = &'a str>) -> usize {
        let mut types: BTreeMap<&str, usize> = BTreeMap::new();
        for entity_type in mentions {
            *types.entry(entity_type).or_default() += 1;
        }
        let types: Vec<(&str, usize)> = types.into_iter().collect();
        let mut count = 0_usize;
        for (i, &(one, n)) in types.iter().enumerate() {
            if self.allow(one, one) {
                count = count.saturating_add(n.saturating_mul(n - 1) / 2);
            }
            for &(other, m) in &types[i + 1..] {
                if self.allow(one, other) || self.allow(other, one) {
                    count = count.saturating_add(n.saturating_mul(m));
                }
            }
        }
        count
    }

    /// All candidate pairs of a sentence as (first argument, second argument), each pair of
    /// mentions once. The types decide which of the two is the first argument; where both orders
    /// are allowed, it is the one listed first.
    pub fn of(&self, sentence: &Sentence) -> Vec<(usize, usize)> {
        let mut pairs = Vec::new();
        for (i, one) in sentence.entities.iter().enumerate() {
            for (j, other) in sentence.entities.iter().enumerate().skip(i + 1) {
                if self.allow(&one.entity_type, &other.entity_type) {
                    pairs.push((i, j));
                } else if self.allow(&other.entity_type, &one.entity_type) {
                    pairs.push((j, i));
                }
            }
        }
        pairs
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Entity, Sentence, Span, Task};
    use super::*;

    fn sentence(types: &[&str]) -> Sentence {
        let entity = |(i, entity_type): (usize, &&str)| Entity {
            id: format!("e{i}"),
            entity_type: (*entity_type).to_owned(),
            text: "x".into(),
            spans: vec![Span::new(i, i + 1)],
        };
        let entities = types.iter().enumerate().map(entity).collect();
        Sentence { id: "s".into(), document: "d".into(), text: "x".repeat(types.len()), entities, pairs: vec![] }
    }

    #[test]
    fn types_decide_pairs_and_order() {
        let chemprot = Task::chemprot().candidates;
        assert_eq!(
            chemprot.of(&sentence(&["GENE-Y", "CHEMICAL", "CHEMICAL", "GENE-N"])),
            [(1, 0), (2, 0), (1, 3), (2, 3)]
        );
        let ddi = Task::ddi().candidates;
        assert_eq!(ddi.of(&sentence(&["drug", "brand", "disease"])), [(0, 1)]);
        assert_eq!(Candidates::default().of(&sentence(&["a", "b", ""])).len(), 3);
        assert!(ddi.includes("drug_n") && !ddi.includes("disease"));
        for (rules, types) in [
            (&chemprot, &["GENE-Y", "CHEMICAL", "CHEMICAL", "GENE-N", "x", "GENE-Y"][..]),
            (&ddi, &["drug", "brand", "drug", "drug", "disease"]),
            (&Candidates::default(), &["a", "b", "", "b", "b"]),
            (&ddi, &[]),
        ] {
            assert_eq!(rules.count(&sentence(types)), rules.of(&sentence(types)).len());
        }
    }
}
