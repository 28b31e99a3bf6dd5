"""How deploys went: the last attaches of all hosts, and how long commits take to reach them."""
