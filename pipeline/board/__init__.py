"""The board: what a run of stages is doing, as a live picture in a terminal, as plain lines and as a file."""
