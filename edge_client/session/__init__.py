"""A conversation as programs and people see it: pictures, answers, their cost, and what is kept.

It does not know how turns travel.
"""
