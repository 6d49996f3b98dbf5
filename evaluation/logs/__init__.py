"""How much of what explains a failure stays when a log is fitted into a budget."""
