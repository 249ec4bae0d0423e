"""Functions of models for users, built from verbs."""
