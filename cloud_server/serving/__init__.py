"""From a decoded request to its result: queue, batches, kept results, the loaded model.

It does not know paths or headers, nor how a token is drawn.
"""
