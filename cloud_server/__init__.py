"""The cloud end: takes token messages, runs the backbone on them, answers with token messages.

It knows no pixels: it neither opens images nor holds an image tokenizer to serve.
"""
