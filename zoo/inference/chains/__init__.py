"""Exact inference in hidden Markov chains."""
