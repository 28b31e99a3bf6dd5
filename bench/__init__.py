"""What Interlock costs, measured beside other servers. ``python -m bench --help``; see README.md."""
