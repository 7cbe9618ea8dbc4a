"""biorel: biomedical relation extraction with BERT."""
