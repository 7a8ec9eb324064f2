"""Commands that look at pictures and make none: questions and labels.

Flags are declared in `task_arguments`, printing is done in `cli`.
"""
