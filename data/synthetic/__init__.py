"""Drawn people in the challenge's layout: python -m data.synthetic."""
