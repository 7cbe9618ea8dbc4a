"""Corpora and documents: reading, tables, the synthetic sample."""
