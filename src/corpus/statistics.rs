//! The paper's Table I for any corpus: sizes and the label distribution of each split.
//!
//! The printed Table I swaps two rows: 19,460 / 11,820 / 16,943 (48,223 in all) are the ChemProt
//! pairs and 18,779 / 7,244 / 5,761 (31,784) the DDI pairs, both in the form of the BLUE benchmark.

use std::collections::HashSet;

use super::{Corpus, FindingKind};

/// One row of the table. Documents and sentences are counted in two ways, as in the literature: all
/// that are in the files, and only those with a candidate pair (AIMed's "220 documents", DDI's "624
/// training files").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitStatistics {
    /// Name of the split.
    pub split: String,
    /// Documents with at least one sentence.
    pub documents: usize,
    /// Documents with at least one candidate pair.
    pub documents_with_pairs: usize,
    /// Sentences.
    pub sentences: usize,
    /// Sentences with at least one candidate pair.
    pub sentences_with_pairs: usize,
    /// Mentions.
    pub entities: usize,
    /// Candidate pairs; one for each gold label where a pair has several.
    pub pairs: usize,
    /// Number of pairs of each label, in the task's order.
    pub labels: Vec<(String, usize)>,
    /// Gold positives in the files that could not become a pair.
    pub lost: usize,
}

impl Corpus {
    /// One row for each split.
    pub fn statistics(&self) -> Vec<SplitStatistics> {
        self.splits
            .iter()
            .map(|split| {
                let with_pairs = || split.sentences.iter().filter(|sentence| !sentence.pairs.is_empty());
                let mut counts = vec![0; self.task.labels.len()];
                for pair in split.sentences.iter().flat_map(|sentence| &sentence.pairs) {
                    if let Some(count) = counts.get_mut(pair.label) {
                        *count += 1;
                    }
                }
                let lost = |split: &str| {
                    self.report
                        .findings
                        .iter()
                        .filter(|finding| finding.kind == FindingKind::Lost && finding.split.as_deref() == Some(split))
                        .count()
                };
                SplitStatistics {
                    split: split.name.clone(),
                    documents: split.sentences.iter().map(|s| s.document.as_str()).collect::<HashSet<_>>().len(),
                    documents_with_pairs: with_pairs().map(|s| s.document.as_str()).collect::<HashSet<_>>().len(),
                    sentences: split.sentences.len(),
                    sentences_with_pairs: with_pairs().count(),
                    entities: split.sentences.iter().map(|sentence| sentence.entities.len()).sum(),
                    pairs: split.pairs(),
                    labels: self.task.labels.iter().cloned().zip(counts).collect(),
                    lost: lost(&split.name),
                }
            })
            .collect()
    }
}
