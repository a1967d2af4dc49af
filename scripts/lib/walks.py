"""Walks all sets and prints or stores what comes of it: see ``scripts/walks --help``."""

import json
import sys
from dataclasses import asdict

from gateway.simulator.plan_file import built_in_plan
from tests.simulator.walks import SETS, STORED, Figures, evaluate, listen, stored, worse


def main(*, write: bool) -> int:
    """Exit code 1 when a figure is worse than the stored one."""
    before = {} if write else stored()
    found: dict[str, Figures] = {}
    complaints = []
    for walks in SETS:
        figures = found[walks.name] = evaluate(listen(walks), built_in_plan(walks.plan))
        told = ", ".join(f"{name} {'–' if value is None else value}" for name, value in asdict(figures).items())
        print(f"{walks.name}: {told}", flush=True)
        if walks.name in before:
            complaints += [f"{walks.name}: {line}" for line in worse(figures, before[walks.name])]
    if write:
        text = json.dumps({name: asdict(figures) for name, figures in found.items()}, indent=2)
        STORED.write_text(text + "\n", encoding="utf-8")
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(write="--write" in sys.argv[1:]))
