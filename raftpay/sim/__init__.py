"""The simulator: whole clusters of real nodes in one thread, on simulated clocks, network and disks, from one seed.

`run.simulate` runs one seed; `soak` runs many on all cores. Called by `raftpay sim`. docs/reliability.md says what it
promises and what it leaves out.
"""
