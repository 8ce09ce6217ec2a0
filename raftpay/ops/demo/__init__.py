"""The failover demo behind `raftpay demo`: pay a file, kill the leader on the way, prove the books from the file alone.

`drill` does it, `books` proves it from the file alone, `timeline` turns acknowledgements into gaps and rates, `plot`
and `svg` draw them, `result` is what is kept. Only `drill` and the reading half of `books` touch the world; the rest
are pure functions of what was seen.
"""
