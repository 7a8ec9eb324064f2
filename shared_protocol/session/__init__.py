"""A conversation between two ends: what both keep of it, and each frame to bytes and back.

It knows no sockets and no threads: bytes come in and go out. SESSION.md is the specification.
"""
