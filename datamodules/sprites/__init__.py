"""Pictures drawn from known factors."""
