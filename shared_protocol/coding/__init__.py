"""Coders of single parts: integers, text ids, masks and image codes to bytes and back.

Which parts a message has, and in which order, is known in `message` only.
"""
