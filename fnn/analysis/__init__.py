"""Looking at models."""
