"""What the built-in models can do: cases, the judge, verdicts and the report.

It does not train what is shipped, and measures only what came over the wire.
"""
