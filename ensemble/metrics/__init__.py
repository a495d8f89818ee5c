"""Scores and bootstrap intervals."""
