"""From files and runs to an Evaluation."""
