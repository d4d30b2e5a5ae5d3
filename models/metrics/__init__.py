"""What is measured on held-out labels."""
