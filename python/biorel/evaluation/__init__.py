"""Scores with their protocol, and paired tests."""
