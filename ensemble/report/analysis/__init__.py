"""Compute the results of a report from an Evaluation."""
