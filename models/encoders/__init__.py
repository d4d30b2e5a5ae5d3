"""Frozen image encoders: features of real images from a network that was trained elsewhere."""
