"""A site's file: cameras, masks, zones, outputs and retention, for watch and serve."""
