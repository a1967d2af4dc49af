"""What is on the air, by format: how many, how often, how loud. Nothing in it names a device."""

from dataclasses import dataclass
from typing import Any

from gateway.core import frames
from gateway.core.model import Frame, Reject

OTHER = "other"
"""What no format claims: nearly everything."""
Heard = dict[tuple[str, int | None], int]
"""Advertisements by format and RSSI (dBm; ``None`` = not known): bounded by the formats and the 256 values there are."""


def claim_of(frame: Frame | Reject | None) -> tuple[str | None, str | None]:
    """(format, reject): one of them, or neither for what no format claims.

    >>> from gateway.core.model import IBeacon
    >>> claim_of(IBeacon(bytes(16), 1, 2, -59)), claim_of(Reject("ibeacon", "length")), claim_of(None)
    (('ibeacon', None), (None, 'ibeacon.length'), (None, None))
    """
    if frame is None:
        return None, None
    if isinstance(frame, Reject):
        return None, f"{frame.format}.{frame.kind}"
    return frames.format_of(frame), None


def row_of(frame: Frame | Reject | None) -> str:
    """The row of the table that an advertisement counts in.

    >>> row_of(None), row_of(Reject("ibeacon", "length"))
    ('other', 'broken ibeacon (length)')
    """
    if frame is None:
        return OTHER
    return f"broken {frame.format} ({frame.kind})" if isinstance(frame, Reject) else frames.format_of(frame)


@dataclass(frozen=True, slots=True)
class Row:
    """One format."""

    name: str
    advertisements: int
    per_s: float | None
    rssi_min: int | None
    rssi_median: int | None
    rssi_max: int | None

    def as_json(self) -> dict[str, Any]:
        """Everything but the name."""
        return {
            "advertisements": self.advertisements,
            "per_s": self.per_s,
            "rssi_min": self.rssi_min,
            "rssi_median": self.rssi_median,
            "rssi_max": self.rssi_max,
        }


def rows(heard: Heard, duration_s: float) -> list[Row]:
    """Most frequent first, what is not ours last."""
    by_name: dict[str, dict[int | None, int]] = {}
    for (name, rssi), count in heard.items():
        by_name.setdefault(name, {})[rssi] = count
    found = [_row(name, levels, duration_s) for name, levels in by_name.items()]
    return sorted(found, key=lambda row: (row.name == OTHER, -row.advertisements, row.name))


def table(heard: Heard, duration_s: float) -> list[str]:
    """The table as lines of text.

    >>> for line in table({("ibeacon", -60): 3, ("ibeacon", -70): 1, ("other", None): 8}, 2.0): print(line)
    format                         advertisements        /s    RSSI min  median     max
    ibeacon                                     4       2.0         -70     -60     -60
    other                                       8       4.0           –       –       –
    """
    lines = [f"{'format':<30} {'advertisements':>14} {'/s':>9}    {'RSSI min':>8} {'median':>7} {'max':>7}"]
    for row in rows(heard, duration_s):
        levels = f"{_text(row.rssi_min):>8} {_text(row.rssi_median):>7} {_text(row.rssi_max):>7}"
        lines.append(f"{row.name:<30} {row.advertisements:>14} {_text(row.per_s):>9}    {levels}")
    return lines


def _row(name: str, levels: dict[int | None, int], duration_s: float) -> Row:
    advertisements = sum(levels.values())
    per_s = round(advertisements / duration_s, 1) if duration_s > 0 else None
    known = sorted((rssi, count) for rssi, count in levels.items() if rssi is not None)
    if not known:
        return Row(name, advertisements, per_s, None, None, None)
    half, median = (sum(count for _, count in known) + 1) // 2, known[0][0]
    for rssi, count in known:
        median = rssi
        half -= count
        if half <= 0:
            break
    return Row(name, advertisements, per_s, known[0][0], median, known[-1][0])


def _text(value: float | None) -> str:
    return "–" if value is None else str(value)
