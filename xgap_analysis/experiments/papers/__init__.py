"""The papers' tables by name, with their published figures."""
