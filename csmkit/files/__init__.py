"""Files of checkpoints: where a name leads, reading tensors, writing directories whole."""
