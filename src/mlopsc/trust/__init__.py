"""Trust: keys, signatures, revocations and the log. It runs nothing."""
