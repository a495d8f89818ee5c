"""Pages that open offline: one HTML file with its style, script, plots and images inside."""
