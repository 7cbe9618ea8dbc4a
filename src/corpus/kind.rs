//! The list of corpus formats.

use strum::{IntoStaticStr, VariantArray};

use super::corpus::ReadOptions;
use super::reader::Reader;
use super::task::Scope;
use super::{chemprot, ddi, documents, table_files, unified};
use crate::{Error, Result};

/// The formats of corpora, in the order in which messages list them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum CorpusKind {
    /// AIMed in the unified PPI XML form, or the flat `aimed_pairs.tsv`.
    Aimed,
    /// BioInfer in the unified PPI XML form.
    Bioinfer,
    /// HPRD50 in the unified PPI XML form.
    Hprd50,
    /// IEPA in the unified PPI XML form.
    Iepa,
    /// LLL in the unified PPI XML form.
    Lll,
    /// Several corpora in the unified PPI XML form; each is a split.
    Ppi,
    /// DDIExtraction 2013.
    Ddi,
    /// ChemProt, BioCreative VI track 5.
    Chemprot,
    /// BioRED, in PubTator's format or BioC.
    Biored,
    /// BC5CDR, chemical-induced diseases, in PubTator's format or BioC.
    Bc5cdr,
    /// DrugProt, BioCreative VII track 1.
    Drugprot,
    /// A user's own pairs: TSV, CSV or JSONL.
    Table,
    /// Documents in PubTator's text format, with relations.
    Pubtator,
    /// Documents in BioC (XML or JSON), with relations.
    Bioc,
    /// Documents in brat's standoff format, with relations.
    Brat,
    /// Documents in the format of the BioNLP shared tasks.
    Bionlp,
    /// Prodigy's JSON lines with relations.
    Prodigy,
    /// BigBio's `kb` schema in JSON.
    Bigbio,
    /// Label Studio's JSON export.
    LabelStudio,
    /// INCEpTION's UIMA CAS in JSON.
    Inception,
}

named!(CorpusKind, "corpus");

impl CorpusKind {
    pub(super) fn reader(self) -> &'static Reader {
        match self {
            Self::Aimed | Self::Bioinfer | Self::Hprd50 | Self::Iepa | Self::Lll | Self::Ppi => &unified::READER,
            Self::Ddi => &ddi::READER,
            Self::Chemprot => &chemprot::READER,
            Self::Biored => &documents::BIORED,
            Self::Bc5cdr => &documents::BC5CDR,
            Self::Drugprot => &documents::DRUGPROT,
            Self::Table => &table_files::READER,
            Self::Pubtator => &documents::PUBTATOR,
            Self::Bioc => &documents::BIOC,
            Self::Brat => &documents::BRAT,
            Self::Bionlp => &documents::BIONLP,
            Self::Prodigy => &documents::PRODIGY,
            Self::Bigbio => &documents::BIGBIO,
            Self::LabelStudio => &documents::LABEL_STUDIO,
            Self::Inception => &documents::INCEPTION,
        }
    }

    /// Refuse options that the format does not take.
    pub(super) fn check(self, options: &ReadOptions) -> Result<()> {
        let ReadOptions { splits, columns, labels, negative, name, pairs, skip_errors, scope, max_mentions, attribute } =
            options;
        let given = [
            ("splits", splits.is_some()),
            ("columns", !columns.is_empty()),
            ("labels", labels.is_some()),
            ("negative", negative.is_some()),
            ("name", name.is_some()),
            ("pairs", pairs.is_some()),
            ("errors", *skip_errors),
            ("scope", *scope != Scope::Sentence),
            ("max_mentions", max_mentions.is_some()),
            ("attribute", attribute.is_some()),
        ];
        let takes = |kind: Self, field| kind.reader().takes.contains(&field);
        match given.into_iter().find(|(field, given)| *given && !takes(self, *field)) {
            None => Ok(()),
            Some((field, _)) => {
                let others = Self::ALL.into_iter().filter(|kind| takes(*kind, field));
                let others: Vec<_> = others.map(Self::name).collect();
                let message = format!("{self} does not take it; leave it out (it is for {})", others.join(", "));
                Err(Error::config(field, message))
            }
        }
    }
}
