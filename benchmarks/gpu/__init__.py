"""The first run on a new GPU: right results, speed against a roofline, one table (`python -m benchmarks.gpu`)."""
