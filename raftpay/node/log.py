"""How a node logs: one line an event to stderr, `time level room message key=value …`. Over the standard logging.

Rooms log by `logging.getLogger("raftpay.<room>")`; fields are given here by keyword. Set up by `node.run` only, so that
a program that uses raftpay as a library keeps its own logging.
"""

import json
import logging
import time
from typing import Final, TextIO

_FIELDS: Final = "raftpay_fields"


def log_line(logger: logging.Logger, level: int, message: str, **fields: object) -> None:
    """Log a message with fields. Cheap when the level is off."""
    if logger.isEnabledFor(level):
        logger.log(level, message, extra={_FIELDS: fields})


class LineFormatter(logging.Formatter):
    """One line, whatever is in the message: `2026-01-02T03:04:05.678Z INFO node listening client=127.0.0.1:7201`."""

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        room = record.name.removeprefix("raftpay.")
        line = f"{seconds}.{int(record.msecs):03d}Z {record.levelname} {room} {record.getMessage()}"
        fields: dict[str, object] = getattr(record, _FIELDS, {})
        line += "".join(f" {key}={_shown(value)}" for key, value in fields.items())
        if record.exc_info:
            line += f" traceback={json.dumps(self.formatException(record.exc_info))}"
        return line.replace("\n", "\\n")


def _shown(value: object) -> str:
    text = str(value)
    return text if text and text.isprintable() and not set(text) & set(" \"'=") else json.dumps(text)


def log_to(stream: TextIO, level: int = logging.INFO) -> logging.Handler:
    """Send raftpay's log lines there; returns the handler, for taking it off again."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter())
    root = logging.getLogger("raftpay")
    root.addHandler(handler)
    root.setLevel(level)
    root.propagate = False
    return handler
