"""Image generators: draw images and yield features on the way."""
