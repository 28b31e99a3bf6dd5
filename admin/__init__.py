"""The HTTP admin API: validate, then commit."""
