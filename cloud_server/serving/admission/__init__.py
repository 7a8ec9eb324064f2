"""Who is let in, in which order, and what it costs: nothing that one client does stops the others.

It does not know HTTP, messages' bytes or models.
"""
