"""Token ids in, token ids out: decoding loops, prompts, windows and the network.

It does not know messages, HTTP, queues or settings.
"""
