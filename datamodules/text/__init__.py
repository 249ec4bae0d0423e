"""Sequences of words or numbers, and documents as bags of words."""
