"""The HTTP half of the wire: media types, paths, headers and the reply stream; see HTTP.md.

Serving and sending are the two ends' own.
"""
