"""Many trials: cross-validation and comparison, here or on a Ray cluster."""
