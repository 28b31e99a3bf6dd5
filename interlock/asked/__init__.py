"""What the agents of all hosts are asked, for the API and the console: their last attaches, and their links."""
