"""Aliases of 0.1 import paths."""
