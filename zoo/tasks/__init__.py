"""What users do with a model, built from its verbs."""
