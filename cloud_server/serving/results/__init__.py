"""Results after they were made: kept for retries, in memory and on disk, and found by their key.

It does not know how a result is made or sent.
"""
