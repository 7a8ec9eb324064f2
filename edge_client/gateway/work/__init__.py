"""The work of a gateway: sessions, pictures that are known, and what one request makes of them.

It knows no HTTP.
"""
