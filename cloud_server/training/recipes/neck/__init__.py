"""The recipe of necks: image tokens into the middle of a vision encoder."""
