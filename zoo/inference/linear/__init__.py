"""Exact inference in linear Gaussian models."""
