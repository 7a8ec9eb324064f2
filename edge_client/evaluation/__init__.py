"""Measures the system as a client does: bytes really sent, pictures really decoded."""
