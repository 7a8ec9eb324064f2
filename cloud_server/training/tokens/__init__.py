"""Pictures as image codes, made once and read by every recipe.

No weights are made here.
"""
