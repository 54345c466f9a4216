"""Modality inversion: OTI and OVI."""
