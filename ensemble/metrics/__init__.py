"""Scores, bootstrap intervals and calibration."""
