"""Cross-validation and comparison: many trials, on this machine or a Ray cluster."""
