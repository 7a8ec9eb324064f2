"""Coders of single parts: integers, text ids, masks and image codes to bytes and back."""
