"""What a prompt asks for: things, how many, where in the picture, in what place.

It does not know models, tokens, messages or recipes; a bundle's file says what can be drawn.
"""
