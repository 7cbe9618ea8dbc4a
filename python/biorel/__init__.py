"""biorel: biomedical relation extraction with BERT.

From corpus files as their authors published them to scores, predictions and a saved model::

    import biorel

    corpus = biorel.load_corpus("ddi", "DDICorpus-2013.zip")
    run = biorel.finetune(corpus, encoder="minilm", head="attention", seed=1)
    print(run.scores)
    run.save("ddi-attention")

After Su & Vijay-Shanker, *Investigation of BERT Model on Biomedical Relation Extraction Based on Revised Fine-tuning
Mechanism* (BIBM 2020).
"""

# First: it chooses the extension module.
from biorel import _extension  # noqa: F401

# isort: split
from biorel._biorel import __version__
from biorel.data.annotation import annotate
from biorel.data.corpus import Corpus
from biorel.data.dictionary import Dictionary
from biorel.data.document_tables import (
    documents_from_rows,
    documents_from_spacy,
    documents_from_tables,
    documents_to_rows,
)
from biorel.data.documents import Document, read_documents, write_documents
from biorel.data.loading import load_corpus
from biorel.data.sample import load_sample, sample_path
from biorel.errors import BiorelError, CheckpointError, ConfigError, CorpusError, DeviceError, TrainingError
from biorel.evaluation.concepts import concept_relations, concept_scores
from biorel.evaluation.external import score
from biorel.evaluation.scores import Scores
from biorel.experiments.compare import compare
from biorel.experiments.comparison import Comparison
from biorel.experiments.cross_validation import CrossValidation, cross_validate
from biorel.experiments.search import Search, search
from biorel.interpretation.faithfulness import faithfulness, rank_agreement
from biorel.interpretation.heatmap import Heatmap, gallery, heatmap
from biorel.interpretation.stems import compare_stems, top_stems
from biorel.models.devices import devices
from biorel.models.encoder import Encoder, load_encoder
from biorel.models.ensemble import Ensemble, ensemble, load_ensemble
from biorel.models.relation_model import RelationModel, load
from biorel.plotting import plot_confusion, plot_faithfulness, plot_history, plot_stems
from biorel.prediction.documents import DocumentPredictions, predict_documents
from biorel.prediction.predictor import Predictor
from biorel.reproduction.reproduce import Reproduction, reproduce
from biorel.training import callbacks
from biorel.training.adapt import Adaptation, adapt
from biorel.training.callbacks import Callback
from biorel.training.finetune import finetune
from biorel.training.joint_run import JointRun
from biorel.training.run import Run, TrainingInterrupted

__all__ = [
    "Adaptation",
    "BiorelError",
    "Callback",
    "CheckpointError",
    "Comparison",
    "ConfigError",
    "Corpus",
    "CorpusError",
    "CrossValidation",
    "DeviceError",
    "Dictionary",
    "Document",
    "DocumentPredictions",
    "Encoder",
    "Ensemble",
    "Heatmap",
    "JointRun",
    "Predictor",
    "RelationModel",
    "Reproduction",
    "Run",
    "Scores",
    "Search",
    "TrainingError",
    "TrainingInterrupted",
    "__version__",
    "adapt",
    "annotate",
    "callbacks",
    "compare",
    "compare_stems",
    "concept_relations",
    "concept_scores",
    "cross_validate",
    "devices",
    "documents_from_rows",
    "documents_from_spacy",
    "documents_from_tables",
    "documents_to_rows",
    "ensemble",
    "faithfulness",
    "finetune",
    "gallery",
    "heatmap",
    "load",
    "load_corpus",
    "load_encoder",
    "load_ensemble",
    "load_sample",
    "plot_confusion",
    "plot_faithfulness",
    "plot_history",
    "plot_stems",
    "predict_documents",
    "rank_agreement",
    "read_documents",
    "reproduce",
    "sample_path",
    "score",
    "search",
    "top_stems",
    "write_documents",
]
