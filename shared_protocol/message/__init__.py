"""Requests, responses and stored pictures as bytes: Table I, its parameters and its container.

How a single part is coded is known in `coding` and `entropy` only.
"""
