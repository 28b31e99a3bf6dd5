"""The pages of the console, a file each: its handlers, and its routes."""
