"""How long the Hub is waited for, in seconds; read as `limits.X`."""

TIMEOUT = 10.0
"""Until a question about a repository, or a byte of an answer to a push, is given up."""

WAITS = (0.5, 1.0, 2.0)
"""Before each retry, beside those that the client makes."""
