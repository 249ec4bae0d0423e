"""Distributions that torch lacks, and the factors of families."""
