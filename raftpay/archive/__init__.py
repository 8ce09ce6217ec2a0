"""Sealed history: applied transfers in immutable files, found again by id, by account and by time.

The only room that knows DuckDB and numpy. It takes rows from the ledger once they are final (columns.py), seals them
into Parquet segments that are chained by their hashes (segments.py), and keeps beside each segment a file of its own
making for quick reads (lookup.py), and an index of all ids (ids.py). `node` introduces it to the ledger; nothing here
decides anything about a transfer.
"""
