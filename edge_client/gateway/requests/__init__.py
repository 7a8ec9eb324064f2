"""What an application asked: bodies to checked values.

It does not know sessions, and answers nobody.
"""
