"""Looks at a picture that was just drawn, and mends what is not as asked.

Neither requests nor bytes are known here.
"""
