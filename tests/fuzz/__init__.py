"""Fuzzing of everything that reads a guest's bytes: `make fuzz SECONDS=60`, and a short run of it in the tests."""
