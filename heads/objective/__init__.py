"""What a head is trained for: targets, losses, and the metric that selects the best epoch."""
