"""How long the Hub is waited for, and how much is read of what it sends."""

TIMEOUT = 10.0  # seconds without a byte until a request of a pull is given up
PUSH_TIMEOUT = 30.0  # the same for a push: a commit is answered when it has been made
RETRIES = 3  # of a request that may succeed later
BACKOFF = 0.5  # seconds before the first retry, doubled with each
PATIENCE = 60.0  # no retry starts later than that after the first try, even if asked to wait
SLOWEST = 1000.0  # bytes a second; what comes slower is given up after PATIENCE
ANSWER = 2**24  # bytes of an answer about a repository
ABANDONED = 3600.0  # seconds after which an unfinished file of a dead process is swept up
