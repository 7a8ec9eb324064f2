"""What a terminal can do: show pictures between lines, and edit a line.

It does not know conversations.
"""
