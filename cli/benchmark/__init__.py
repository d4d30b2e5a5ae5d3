"""`label-factory benchmark`: a pack's labels, every way to use them, measured alike."""
