"""How much of what explains an incident reaches the analysis of its alert."""
