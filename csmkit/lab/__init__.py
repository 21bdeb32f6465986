"""What notebooks and experiments call."""
