"""DNS messages: as values, and as octets."""
