"""Runs a command and writes what it used: seconds of processor time, and megabytes at the most.

    python -m bench.measured USED COMMAND...

Small, and a process of its own: until a started program has taken over, its peak is that of whoever started it, and
the bench, which holds thousands of tickets, is larger than what it measures.
"""

import json
import os
import sys
from pathlib import Path


def main() -> int:
    process = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)  # noqa: TID251  as it is
    _, status, usage = os.wait4(process, 0)
    Path(sys.argv[1]).write_text(json.dumps([usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024]))
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
