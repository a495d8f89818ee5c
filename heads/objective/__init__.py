"""What a head is trained for: targets, losses, the metric that selects the best epoch, and calibration."""
