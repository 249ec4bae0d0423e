"""Files on disk: their places, reading, downloading and storing."""
