"""Load an Evaluation from files and runs."""
