"""What all resources share of HTTP: middleware, problems, inputs, preconditions, pages, limits, replies, the server."""
