"""Readers of published datasets, as they lie on disk."""
