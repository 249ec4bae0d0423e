"""A checkpoint against what it states: measured again, trained again."""
