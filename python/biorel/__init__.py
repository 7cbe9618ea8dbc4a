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
from biorel import _core  # noqa: F401

# isort: split
from biorel import callbacks
from biorel._biorel import __version__
from biorel.callbacks import Callback
from biorel.comparison import Comparison
from biorel.corpus import Corpus, load_corpus
from biorel.cross_validation import CrossValidation, cross_validate
from biorel.devices import devices
from biorel.document_rows import documents_from_rows, documents_to_rows
from biorel.documents import Document, documents_from_spacy, documents_from_tables, read_documents, write_documents
from biorel.encoder import Encoder, load_encoder
from biorel.errors import (
    BiorelError,
    CheckpointError,
    ConfigError,
    CorpusError,
    DeviceError,
    TrainingError,
    TrainingInterrupted,
)
from biorel.experiments import compare
from biorel.faithfulness import faithfulness, rank_agreement
from biorel.model import RelationModel, load
from biorel.pictures import Heatmap, gallery, heatmap, plot_confusion, plot_faithfulness, plot_history, plot_stems
from biorel.prediction import DocumentPredictions, predict_documents
from biorel.predictor import Predictor
from biorel.reproduction import Reproduction, reproduce
from biorel.sample import load_sample, sample_path
from biorel.scores import Scores
from biorel.stems import compare_stems, top_stems
from biorel.training import Run, finetune

__all__ = [
    "BiorelError",
    "Callback",
    "CheckpointError",
    "Comparison",
    "ConfigError",
    "Corpus",
    "CorpusError",
    "CrossValidation",
    "DeviceError",
    "Document",
    "DocumentPredictions",
    "Encoder",
    "Heatmap",
    "Predictor",
    "RelationModel",
    "Reproduction",
    "Run",
    "Scores",
    "TrainingError",
    "TrainingInterrupted",
    "__version__",
    "callbacks",
    "compare",
    "compare_stems",
    "cross_validate",
    "devices",
    "documents_from_rows",
    "documents_from_spacy",
    "documents_from_tables",
    "documents_to_rows",
    "faithfulness",
    "finetune",
    "gallery",
    "heatmap",
    "load",
    "load_corpus",
    "load_encoder",
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
    "top_stems",
    "write_documents",
]
