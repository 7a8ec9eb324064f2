"""What the built-in models can do: cases, the judge, verdicts and the report."""
