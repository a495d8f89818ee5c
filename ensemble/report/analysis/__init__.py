"""From an Evaluation to the values that a report shows."""
