"""The recipe of the text tokenizer and of the text coder's prior."""
