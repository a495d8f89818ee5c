"""Predictions on a Ray cluster."""
