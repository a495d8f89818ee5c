"""A page about a data set before training: python -m data.explore."""
