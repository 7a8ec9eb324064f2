"""Necks: image tokens straight into the middle of another vision model, without a picture.

It does not know messages, HTTP, settings or how a neck is trained.
"""
