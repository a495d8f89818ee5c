"""What views and tuned decisions are worth: python -m bench.merging."""
