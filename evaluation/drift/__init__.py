"""Judges the drift detection beside its peers, on the same rows."""
