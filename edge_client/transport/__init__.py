"""Messages to a cloud and back: the seam, and HTTP behind it.

Nothing here knows what the bytes of a message mean.
"""
