"""The stock half of the museum: each function named after a defect shows PySyncObj 0.3.17 break, and asserts the harm.

A module is a hall. Exhibits run in child processes (`__main__`), which never import raftpay: importing it replaces
names inside PySyncObj.
"""

DONE = "the harm was done"
