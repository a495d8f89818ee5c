"""Train levers beside the defaults and compare them: python -m bench.ablate."""
