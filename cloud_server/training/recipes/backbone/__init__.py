"""The recipe of the unified transformer."""
