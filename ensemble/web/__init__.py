"""A static page that runs the heads in a browser: python -m ensemble.web."""
