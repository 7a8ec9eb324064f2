"""`edge-client gateway`: the OpenAI API on this device, in front of the sessions of `session`.

It does not know how turns travel. `requests` reads what applications send, `work` has it done,
`replies` answers; `app` puts them together behind `doors`.
"""
