"""``python -m tests.interlock.transcript``: writes docs/command-line.md."""

from tests.interlock.transcript.making import PAGE, make_transcript

PAGE.write_text(make_transcript())
