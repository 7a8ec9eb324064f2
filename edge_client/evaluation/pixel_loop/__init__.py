"""The same tasks with pixels on the wire instead of tokens, to compare with."""
