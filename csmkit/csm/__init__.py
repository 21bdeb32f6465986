"""The speech language model: a Llama backbone that predicts the first code of a frame, a small one for the others."""
