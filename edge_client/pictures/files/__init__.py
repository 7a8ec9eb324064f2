"""What picture files take and give: memory to read one, modes and options to write one.

It does not know where files are.
"""
