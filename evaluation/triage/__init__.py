"""Whether the offline triage finds what kind of failure a log shows."""
