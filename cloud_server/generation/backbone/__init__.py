"""The unified transformer: its protocol, its Show-o implementation and its checkpoints."""
