"""Errors, progress, paths, and the nouns that every room shares: features and relevance."""
