"""Entropy models for image tokens: Transformers whose probabilities are integers, equal everywhere.

It does not know tasks, messages or sockets; importing the package loads neither torch nor numba.
"""
