"""The resources of the API, one file each: what clients send, what they are shown, and the handlers."""
