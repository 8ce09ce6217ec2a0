"""What a node keeps on its disk: the journal of the log, the hard state, the data directory, and the seam to the disk
itself.

Bytes only: nothing here knows ledger, messages or asyncio. Called by raftpay/raft (journal, hard state) and
raftpay/node (data directory).
"""
