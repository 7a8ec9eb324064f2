"""Pictures and masks as files to arrays and back, and what is done to their pixels.

Nothing here knows tokens beyond their grid, nor how a picture is sent.
"""
