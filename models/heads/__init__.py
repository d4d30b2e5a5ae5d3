"""Task heads on the frozen generator's features."""
