"""Model files, checkpoints, and pretrained weights."""
