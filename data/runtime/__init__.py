"""Errors and exit codes, CSV files, atomic files, locks, signals, worker processes and HTML pages."""
