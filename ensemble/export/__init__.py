"""The whole ensemble as one graph for other programs: python -m ensemble.export."""
