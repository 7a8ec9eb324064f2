"""The recipe of the built-in image tokenizer."""
