"""Manifests: environments as a YAML document says that they should be, read, compared and written."""
