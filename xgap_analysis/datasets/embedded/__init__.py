"""Datasets that lie in this repository."""
