"""The four suites of `evaluate`: one file per suite, named after it; each has `measure`."""
