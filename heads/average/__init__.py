"""Averages of the weights of several runs: python -m heads.average."""
