"""The transcript docs/command-line.md: the real commands on a real ``interlock up``, at 80 columns.

After a change of what commands print:  python -m tests.interlock.transcript
"""
