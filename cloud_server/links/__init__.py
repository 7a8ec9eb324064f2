"""Conversations over links of their own: sockets and pipes that carry bare frames.

It does not know what the frames say, nor HTTP; `serving.conversation` serves them.
"""
