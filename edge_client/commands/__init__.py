"""What each command of `edge-client` does: files in, files and an `Outcome` out.

Flags are declared in `arguments`, printing is done in `cli`.
"""
