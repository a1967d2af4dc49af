"""One job alone, while working on it: ``python -m tests.radio FOLDER MODULE [WORD …]``; leaves what it found in FOLDER."""

import sys
from pathlib import Path

from tests.radio import machine

folder = Path(sys.argv[1]).resolve()
folder.mkdir(parents=True)
ran = machine.run_job(machine.image(), folder, *sys.argv[2:], limit_s=1800)
sys.stdout.write(f"{ran.said}\nstatus {ran.status}, booted in {ran.boot_s} s, took {ran.took_s:.0f} s\n")
sys.exit(1 if ran.status is None else ran.status)
