"""How a table is set side by side with what was published, and written as text, page and plots."""
