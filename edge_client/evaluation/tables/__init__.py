"""What an evaluation found, as tables, plots and files.

Nothing is asked of a server here.
"""
