"""``python -m tests.interlock.transcript``: writes docs/command-line.md."""

from tests.interlock.transcript.making import PAGE, make_transcript

page, is_straight = make_transcript()
while not is_straight:
    page, is_straight = make_transcript()
PAGE.write_text(page)
