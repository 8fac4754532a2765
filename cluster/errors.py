"""What a user of a cluster can put right; light to import, so that wrong flags are answered without Ray."""


class ClusterError(RuntimeError):
    """The cluster cannot be joined, or cannot run what is asked of it; the message says what to do."""
