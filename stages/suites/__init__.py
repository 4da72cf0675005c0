"""The four suites of `evaluate`: one file each, the file name is its name; each has `measure`."""
