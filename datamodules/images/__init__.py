"""Pictures, some with labels."""
