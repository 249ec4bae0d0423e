"""Files: where they lie, how they are read, fetched and kept."""
