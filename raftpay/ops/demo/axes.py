"""Round numbers for axes, and how they are written. Pure; the terminal plot and the SVG share it."""

import math
from typing import Final

_STEPS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)


def ticks(top: float, *, count_max: int) -> list[float]:
    """Round values from 0 to the first one not below `top`, at most `count_max` steps; [0, 1] when top is 0."""
    if top <= 0:
        return [0.0, 1.0]
    power = 10.0 ** math.floor(math.log10(top / count_max))
    candidates = (step * scale for scale in (power, power * 10) for step in _STEPS)
    step = next(step for step in candidates if math.ceil(round(top / step, 9)) <= count_max)
    return [round(step * number, 9) for number in range(math.ceil(round(top / step, 9)) + 1)]


def ticks_within(top: float, *, count_max: int) -> list[float]:
    """Round values from 0 up to `top` at most: for an axis that ends where the data ends."""
    return [value for value in ticks(top, count_max=count_max) if value <= top + 1e-9]


def rate_label(value: float) -> str:
    """Payments per second, short: 950, 2.5 k, 40 k, 1.2 M."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g}"


def seconds_label(value: float) -> str:
    return f"{value:g} s"
