"""Readers of one's own data: folders, tables, shards."""
