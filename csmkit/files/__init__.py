"""Files of checkpoints: from names to directories, reading tensors, writing whole directories."""
