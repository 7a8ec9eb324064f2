"""What the built-in models can do: cases, the judge, verdicts and the report.

Nothing here is needed to serve; the judge that is trained here only grades.
"""
