"""A run's folder, checkpoints and manifest."""
