"""Model files, checkpoints of a training, and pretrained weights."""
