"""Clients and frameworks that get a history, one package each."""
