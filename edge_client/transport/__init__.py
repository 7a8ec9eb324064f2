"""Messages to a cloud and back: the seam, and HTTP behind it."""
