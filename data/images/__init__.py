"""Image files to uint8 pixels: find, decode, validate, crop to face boxes, cache."""
