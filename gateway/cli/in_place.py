"""Lines on a terminal that take the place of those before them."""

import shutil
from collections.abc import Sequence

_UP_AND_CLEAR = "\x1b[{lines}A\r\x1b[J"


class InPlace:
    """What was drawn last."""

    def __init__(self) -> None:
        """Nothing is drawn yet."""
        self._drawn = 0

    def draw(self, lines: Sequence[str]) -> None:
        """Instead of what is there; what does not fit into the terminal is cut."""
        columns, rows = shutil.get_terminal_size()
        self.clear()
        # A line that wraps, or a picture that scrolls, would not be found again by counting lines.
        shown = [line[: columns - 1] for line in lines[: max(1, rows - 1)]]
        print("\n".join(shown), flush=True)
        self._drawn = len(shown)

    def clear(self) -> None:
        """Take it away."""
        if self._drawn:
            print(_UP_AND_CLEAR.format(lines=self._drawn), end="")
            self._drawn = 0
