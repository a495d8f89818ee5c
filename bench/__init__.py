"""Measurements: scripts that train, time and compare, and write what they found."""
