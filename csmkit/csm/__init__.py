"""The speech language model: a Llama backbone predicts the first code of a frame, a small decoder the others."""
