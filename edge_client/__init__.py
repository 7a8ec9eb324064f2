"""The edge: turns pictures and words into tokens, talks to a cloud, and turns its tokens back.

It holds the pixels and knows nothing about the network that generates.
"""
