"""The composition root: settings, command line, supervision. Nothing imports it."""
