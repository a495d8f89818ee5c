"""Trained heads to joint answers: views, probabilities, joint code, metrics; may import data and heads."""
