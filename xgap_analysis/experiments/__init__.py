"""Comparisons, studies and their tables."""
