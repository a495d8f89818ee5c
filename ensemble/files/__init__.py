"""Submission, ground truth and predictions on disk."""
