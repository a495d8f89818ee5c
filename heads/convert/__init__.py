"""Weights written by Keras as a backbone file: python -m heads.convert."""
