"""How is a chunk of a column coded? As steps between neighbours, above the least of them, in as few bytes as they need.

*first*: the first value; *step*: the least difference between neighbours; *planes*: what each further difference is
above it, its lowest bytes first, then the next: shape (bytes, rows - 1). A chunk whose values ascend evenly (constants,
dense numbers, times of a steady load) has no planes at all. All arithmetic wraps at 64 bits, so any integers are coded.
"""

from __future__ import annotations

import numpy as np

from harness.history.history import Array

WIDTHS = (1, 2, 4, 8)


def encode(values: Array) -> tuple[int, int, Array | None]:
    """(first, step, planes) of at least one value; planes are None where every difference is `step`."""
    raw = values.astype(np.int64).view(np.uint64)
    steps = raw[1:] - raw[:-1]
    if len(steps) == 0:
        return int(raw[0]), 0, None
    step = steps.view(np.int64).min().view(np.uint64)
    above = steps - step
    top = int(above.max())
    if top == 0:
        return int(raw[0]), int(step), None
    width = next(width for width in WIDTHS if top < 1 << 8 * width)
    narrow = above.astype(f"<u{width}")
    return int(raw[0]), int(step), np.ascontiguousarray(narrow.view(np.uint8).reshape(-1, width).T)


def decode(first: int, step: int, planes: Array | None, rows: int, type_: str) -> Array:
    """The values of a chunk; of a constant one, an array that repeats the one value without holding it `rows` times."""
    if planes is None and (step == 0 or rows == 1):
        return np.broadcast_to(np.uint64(first).astype(type_), rows)
    raw = np.empty(rows, "<u8")
    if planes is None:
        raw[:] = step
    else:
        np.add(_joined(planes), np.uint64(step), out=raw[1:], dtype=np.uint64)
    raw[0] = first
    signed = raw.view(np.int64)  # its sums are taken a third faster, and wrap alike
    np.cumsum(signed, out=signed)
    return signed.astype(type_, copy=False) if type_ != "u8" else raw


def _joined(planes: Array) -> Array:
    """The numbers whose bytes these planes are."""
    width = len(planes)
    if width == max(WIDTHS):
        numbers = np.empty((planes.shape[1], width), np.uint8)
        for place, plane in enumerate(planes):
            numbers[:, place] = plane
        return np.asarray(numbers.reshape(-1).view(f"<u{width}"))
    whole: Array = planes[0].astype(f"<u{width}")
    for place in range(1, width):
        whole |= planes[place].astype(whole.dtype) << whole.dtype.type(8 * place)
    return whole
