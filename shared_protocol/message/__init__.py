"""Requests, responses and stored pictures as bytes: Table I, its parameters and its container."""
