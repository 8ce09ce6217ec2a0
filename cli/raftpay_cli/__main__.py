"""`python -m raftpay_cli` is `raftpay`: how the local cluster starts its nodes with the very same interpreter."""

import sys

from raftpay_cli import main

if __name__ == "__main__":
    sys.exit(main())
