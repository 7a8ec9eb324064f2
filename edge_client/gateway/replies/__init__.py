"""The paths of the gateway: what each answers, in the words that clients of OpenAI expect.

It does not know how a picture is made.
"""
