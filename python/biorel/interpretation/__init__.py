"""What a model looked at: stems, faithfulness, heat maps."""
