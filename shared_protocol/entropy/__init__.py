"""Entropy models for image tokens: Transformers whose probabilities are integers, equal everywhere.

It does not know tasks, messages or sockets; numpy and a C file compute,
torch only where it is asked for.
"""
