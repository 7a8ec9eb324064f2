"""The recipe of the entropy models, for the built-in bundle and for any other."""
