"""Does this machine compute what every other machine computes? Probes, digests, round trips.

Nothing here is needed to code a message.
"""
