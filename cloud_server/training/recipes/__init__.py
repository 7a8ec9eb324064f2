"""One recipe for each shipped weight file, and what all recipes share.

Nothing here is needed to serve.
"""
