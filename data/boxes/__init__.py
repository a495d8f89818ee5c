"""Face boxes of images that are not cropped: python -m data.boxes."""
