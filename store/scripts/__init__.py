"""The scripts that the store runs: each makes one change whole, or refuses it and changes nothing."""
