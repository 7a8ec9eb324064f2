"""Whole reports about a machine: what it computes, how fast, and with how much memory."""
