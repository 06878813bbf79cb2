"""The farm is broken on purpose, at random moments; what has to hold all the same is checked after each fault."""
