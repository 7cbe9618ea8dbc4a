"""Fine-tuning: the run, its callbacks and its progress."""
