"""The newest payloads of the journal in memory, so that what was just appended is sent and applied without a read."""


class PayloadCache:
    """first: all entries from it up to the last appended one are here, without a gap; beyond the last if none is."""

    __slots__ = ("_bytes", "_bytes_max", "_payloads", "first")

    def __init__(self, first: int, bytes_max: int) -> None:
        self.first = first
        self._bytes_max = bytes_max
        self._bytes = 0
        self._payloads: dict[int, bytes] = {}

    def add(self, index: int, payload: bytes) -> None:
        """Take the entry after the last; the oldest go when there are too many bytes."""
        self._payloads[index] = payload
        self._bytes += len(payload)
        while self._bytes > self._bytes_max:
            self._bytes -= len(self._payloads.pop(self.first))
            self.first += 1

    def get(self, index: int) -> bytes | None:
        return self._payloads.get(index)

    def take(self, first: int, last: int) -> list[bytes]:
        """Payloads of first to last, all of which are here."""
        return [self._payloads[index] for index in range(first, last + 1)]

    def drop_from(self, index: int, last: int) -> None:
        """Forget index to last, which is the last one there is."""
        for cut in range(max(index, self.first), last + 1):
            self._bytes -= len(self._payloads.pop(cut))
        self.first = min(self.first, index)

    def drop_before(self, index: int) -> None:
        while self.first < index and self._payloads:
            self._bytes -= len(self._payloads.pop(self.first))
            self.first += 1
        self.first = max(self.first, index)
