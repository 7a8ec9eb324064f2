"""What each command of `edge-client` does: files in, files and an `Outcome` out."""
