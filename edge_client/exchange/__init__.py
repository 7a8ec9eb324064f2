"""From a request to its response: turns of a conversation, or single messages.

It does not know pixels, words or files, nor how a link or a transport works.
"""
