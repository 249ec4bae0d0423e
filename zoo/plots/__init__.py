"""Pictures: grids of images, charts, contact sheets."""
