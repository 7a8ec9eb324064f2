"""Procedural sprite scenes that know their own truth: pictures, captions, questions."""
