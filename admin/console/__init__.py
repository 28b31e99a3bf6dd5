"""The console: pages for people, at the address of the admin API. They show what the API knows, and decide nothing."""
