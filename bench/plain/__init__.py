"""The plain loop, with which training and inference are compared: python -m bench.plain."""
