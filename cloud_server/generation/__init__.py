"""Token ids in, token ids out: decoding loops, prompts, windows and the network."""
