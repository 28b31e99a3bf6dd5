"""What an operator sees of a process: logs, metrics, readiness, explanations."""
