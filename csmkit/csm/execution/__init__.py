"""How one frame of codes is computed: operation by operation, as a CUDA graph, compiled, or over rounded weights."""
