"""Faces with attributes."""
