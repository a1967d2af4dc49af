"""`gateway zone walk`: a bar that somebody on the way can read at a glance, then what was learnt."""

import contextlib
import json
import shutil
import sys
import termios
import threading
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from gateway.cli.change import print_json
from gateway.cli.in_place import InPlace
from gateway.cli.reach import Gateway
from gateway.contract.control import result_of
from gateway.contract.fields import Strict, explain
from gateway.contract.walks import WalkDone, WalkMarked, WalkMarkRequest, WalkProgress, WalkRefused, WalkRequest
from gateway.core.sanitiser import printable
from gateway.core.spelling import listed
from gateway.errors import GatewayError, TryAgain, WrongCommand

_BAR = 20
_PATIENCE_S = 120.0
"""Learning takes seconds, on a slow machine many."""
_LINE_EVERY_S = 5.0
_NARROW = 40
_LONGEST_LINE = 400


class _WalkNews(Strict):
    """Which of the three a line is."""

    news: WalkProgress | WalkDone | WalkRefused


def run_walk(config: Path, asked: Mapping[str, object], *, as_json: bool) -> None:
    """Show the walk and what has become of it; ``TryAgain`` when it was refused, with the reason."""
    try:
        request = WalkRequest.model_validate(asked)
    except ValidationError as error:
        raise WrongCommand(explain(error)) from error
    gateway = Gateway(config)
    screen = _Screen(request, is_shown=not as_json)
    try:
        last = _follow(gateway, request, screen)
    except KeyboardInterrupt:
        print("the walk was broken off; nothing was changed.", file=sys.stderr)
        raise
    if as_json:
        print_json(last)
    if isinstance(last, WalkRefused):
        raise TryAgain(f"not learnt: {last.what}", where=last.zone, do=f"{last.do} Nothing was changed.")
    if not as_json:
        print("\n".join(_done(last)))


def _follow(gateway: Gateway, request: WalkRequest, screen: "_Screen") -> WalkDone | WalkRefused:
    enters = _Enters(gateway) if request.path and not request.evenly else None
    with contextlib.closing(_news(gateway, request)) as news, screen, enters or contextlib.nullcontext():
        for one in news:
            if not isinstance(one, WalkProgress):
                return one
            screen.show(one)
            if enters is not None and enters.have_ended and one.state != "learning" and one.marks_passed < one.marks:
                raise WrongCommand(
                    "each mark is told by Enter, and the input has ended; on a terminal press it, or add --evenly."
                )
    raise TryAgain(
        "no gateway is running, and only a running one hears a walk.", do="sudo systemctl start gateway, then try again."
    )


def _news(gateway: Gateway, request: WalkRequest) -> Generator[WalkProgress | WalkDone | WalkRefused, None, None]:
    with contextlib.closing(gateway.follow(request, timeout_s=_PATIENCE_S)) as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                raise TryAgain("the gateway broke off its answer.", do="See journalctl -u gateway.")
            yield result_of(_wrapped(line), _WalkNews).news


def _wrapped(line: bytes) -> bytes:
    """An answer whose result says itself what it is."""
    answer = json.loads(line)
    if answer.get("result") is not None:
        answer["result"] = {"news": answer["result"]}
    return json.dumps(answer).encode()


class _Enters:
    """Each line of standard input is a mark that was reached; told at once, because the walker goes on."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._quiet: list[object] | None = None
        self.have_ended = False

    def __enter__(self) -> None:
        if sys.stdin.isatty():
            # The line's end would move the bar down.
            self._quiet = termios.tcgetattr(sys.stdin)
            attributes = termios.tcgetattr(sys.stdin)
            attributes[3] &= ~(termios.ECHO | termios.ECHONL)
            termios.tcsetattr(sys.stdin, termios.TCSANOW, attributes)
        threading.Thread(target=self._read, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        if self._quiet is not None:
            termios.tcsetattr(sys.stdin, termios.TCSANOW, self._quiet)  # type: ignore[arg-type]

    def _read(self) -> None:
        for _ in sys.stdin:
            try:
                self._gateway.ask(WalkMarkRequest(), WalkMarked)
            except GatewayError:
                return  # no walk waits for a mark any more, or its own end tells what is wrong
        self.have_ended = True


class _Screen:
    """In place on a terminal, a line now and then where none is."""

    def __init__(self, request: WalkRequest, *, is_shown: bool) -> None:
        self._request = request
        self._is_shown = is_shown
        self._in_place = InPlace() if is_shown and sys.stdout.isatty() else None
        self._has_begun = False
        self._said_s = -_LINE_EVERY_S
        self._said_state = ""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        if self._in_place is not None:
            self._in_place.clear()
            sys.stdout.flush()

    def show(self, progress: WalkProgress) -> None:
        """The newest."""
        # Only now: of a zone that is not there, or without a gateway, nobody is told to walk.
        if self._is_shown and not self._has_begun:
            print("\n".join(_guidance(self._request)), flush=True)
        self._has_begun = True
        if self._in_place is not None:
            self._in_place.draw(_bar(self._request, progress, shutil.get_terminal_size().columns))
        elif self._is_shown and self._is_news(progress):
            self._said_s, self._said_state = progress.elapsed_s, progress.state
            print(_plain(self._request, progress), flush=True)

    def _is_news(self, progress: WalkProgress) -> bool:
        return progress.state != self._said_state or progress.elapsed_s - self._said_s >= _LINE_EVERY_S


def _guidance(request: WalkRequest) -> list[str]:
    if not request.path:
        carried = (
            f"the beacon {request.beacon}" if request.beacon else "the phone where a shopper carries it, the app's test mode open"
        )
        return [f"Walk through {request.zone} for {request.duration_s} s, slowly, along all of it; {carried}."]
    marks = " → ".join(f"{x:g},{y:g}" for x, y in request.path)
    if request.evenly:
        return [f"Walk through {request.zone} at one speed, {request.duration_s} s for all of: {marks}."]
    return [f"Walk through {request.zone}: {marks}.", "Stand at the first mark and press Enter, then at each of the others."]


def _bar(request: WalkRequest, progress: WalkProgress, columns: int) -> list[str]:
    """Two lines: how long still, and what is heard."""
    zone = printable(request.zone, max(8, columns // 3))
    if progress.state == "waiting":
        told = request.path and not request.evenly
        return [f"{zone}  waiting for Enter at the first mark" if told else f"{zone}  waiting to hear the test device …"]
    if progress.state == "learning":
        return [f"{zone}  learning … {progress.heard} sightings"]
    told = progress.left_s is None
    share = progress.marks_passed / max(1, progress.marks) if told else progress.elapsed_s / request.duration_s
    full = min(_BAR, round(_BAR * share))
    size = _BAR if columns >= _NARROW + _BAR else _BAR // 2
    full = full * size // _BAR
    if told:
        place = request.path[min(progress.marks_passed, progress.marks - 1)]
        rest = f"Enter at mark {progress.marks_passed + 1} ({place[0]:g},{place[1]:g})"
    else:
        rest = f"{round(progress.left_s or 0.0):>3} s left"
    lines = [
        f"{zone}  [{'#' * full}{'.' * (size - full)}] {rest}  {progress.heard_per_s:g}/s",
        _fitting(_levels(progress), columns),
    ]
    return [*lines, _fitting(["not heard by", *progress.silent], columns)] if progress.silent else lines


def _levels(progress: WalkProgress) -> list[str]:
    return [f"{one.anchor} {'–' if one.level_dbm is None else f'{one.level_dbm:.0f}'}" for one in progress.anchors]


def _fitting(words: Sequence[str], columns: int) -> str:
    """As many as fit whole: half a level would be another one."""
    line = " "
    for word in words:
        if len(line) + len(word) + 4 > columns:
            return f"{line} …"
        line += f" {word}"
    return line


def _plain(request: WalkRequest, progress: WalkProgress) -> str:
    """One line for a pipe."""
    if progress.state == "waiting":
        return f"{request.zone}: waiting to hear the test device"
    if progress.state == "learning":
        return f"{request.zone}: learning from {progress.heard} sightings"
    left = f"mark {progress.marks_passed} of {progress.marks}" if progress.left_s is None else f"{progress.left_s:.0f} s left"
    levels = [*_levels(progress), *(f"{name}: not yet" for name in progress.silent)]
    return printable(f"{request.zone}: {left}, {progress.heard_per_s:g} heard/s, {'  '.join(levels)}", limit=_LONGEST_LINE)


def _done(done: WalkDone) -> list[str]:
    lines = [f"{done.zone} is learnt: {done.heard} sightings in {done.duration_s:.0f} s by {listed(done.anchors)}"]
    if done.sounds_like is not None:
        lines.append(f"note: it sounds like {done.sounds_like}; see gateway zone check")
    if done.zone_accuracy is not None and done.accuracy is not None:
        lines.append(
            f"told right in {done.zone_accuracy:.0%} of this walk and {done.accuracy:.0%} of all walks (gateway zone check)"
        )
    if done.in_force:
        lines.append(f"zone model {done.model} is in force now")
    else:
        lines.append(f"zone model {done.model} is kept; it comes into force when these are walked too: {listed(done.not_walked)}")
        lines.append(f"next: gateway zone walk {done.not_walked[0]}")
    return [printable(line, limit=1000) for line in lines]
