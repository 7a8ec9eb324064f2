"""Text and pictures to tokens and back; importing the package loads no library.

It does not know messages, nor where a bundle's files come from. `networks` says each image
tokenizer once; what computes its layers is chosen in `load`.
"""
