"""Triggers: webhooks of forges become runs; what becomes of runs goes back as commit statuses and webhooks.

What is said by whom in which header is a table (`providers`, `statuses`); checking, reading and wording are pure
functions. Two things act: `reception` takes webhooks in, `sender` delivers.
"""
