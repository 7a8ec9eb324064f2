"""Recipes that make every shipped weight, from data that anyone can install.

They know no HTTP; serving code imports none of them.
"""
