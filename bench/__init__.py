"""The cost of Interlock, measured beside other servers. ``python -m bench --help``; see README.md."""
