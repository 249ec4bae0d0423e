"""Distributions that torch lacks, and the factors that families are built from."""
