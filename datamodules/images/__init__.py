"""Pictures, with labels where they have some."""
