"""The commands: a module for each thing that they are about, and what they share."""
