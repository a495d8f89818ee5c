"""One head's YAML to a checked TaskConfig."""
