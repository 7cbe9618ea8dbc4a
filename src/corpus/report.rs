//! What happened to the gold data while a corpus was read: nothing is dropped or changed silently.

use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum FindingKind {
    /// A gold positive that could not become a pair: a miss for corpus-level recall.
    Lost,
    /// Something that is in the files but not in the corpus as read.
    Skipped,
    /// Something that was read differently from what the file literally says.
    Repaired,
}

named!(FindingKind, "kind");

/// One such event, for the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was done.
    pub kind: FindingKind,
    /// The split that it belongs to, if it belongs to one.
    pub split: Option<String>,
    /// The document that it belongs to; `None` for a file or a whole table. It cannot be
    /// derived from the identifier: `d.1.R1` may belong to `d` or to `d.1`.
    pub document: Option<String>,
    /// Identifier of the relation, pair, entity or file.
    pub id: String,
    /// Index of the gold label, for a lost positive.
    pub label: Option<usize>,
    /// Why.
    pub reason: String,
}

impl Finding {
    /// A finding that belongs to no split yet.
    pub(super) fn new(kind: FindingKind, id: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { kind, split: None, document: None, id: id.into(), label: None, reason: reason.into() }
    }

    /// The finding with its document.
    pub(super) fn of_document(mut self, document: &str) -> Self {
        self.document = Some(document.to_owned());
        self
    }

    /// The finding with its split.
    pub(super) fn within(mut self, split: &str) -> Self {
        self.split = Some(split.to_owned());
        self
    }

    /// The finding with its gold label.
    pub(super) fn labelled(mut self, label: usize) -> Self {
        self.label = Some(label);
        self
    }
}

/// All findings, in the order of the files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The findings.
    pub findings: Vec<Finding>,
}

impl Report {
    /// How many findings of a kind there are.
    pub fn count(&self, kind: FindingKind) -> usize {
        self.findings.iter().filter(|finding| finding.kind == kind).count()
    }

    /// One line for each reason, with its count and first identifier, to be printed after reading.
    pub fn summary(&self) -> Vec<String> {
        let mut groups: Vec<(&Finding, usize)> = Vec::new();
        for finding in &self.findings {
            let known = groups.iter_mut().find(|(first, _)| {
                (first.kind, &first.split, &first.reason) == (finding.kind, &finding.split, &finding.reason)
            });
            match known {
                Some((_, count)) => *count += 1,
                None => groups.push((finding, 1)),
            }
        }
        let line = |(first, count): &(&Finding, usize)| {
            let split = first.split.as_ref().map(|split| format!(" in {split}")).unwrap_or_default();
            let more = if *count > 1 { ", ..." } else { "" };
            format!("{} {count}{split}: {} ({}{more})", first.kind.name(), first.reason, first.id)
        };
        groups.iter().map(line).collect()
    }
}
