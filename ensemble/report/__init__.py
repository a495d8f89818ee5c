"""The report of a submission: what is known of it (evaluation), what follows (findings), how it is shown."""
