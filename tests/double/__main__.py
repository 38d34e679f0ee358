"""The double as a process: prints one JSON line with its address, and serves until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import threading

from tests.double.server import Double
from tests.double.state import KEY, State


def main() -> None:
    arguments = _arguments()
    state = State(latency=arguments.latency, keys=frozenset(arguments.key or [KEY]))
    double = Double(state, profile=arguments.profile)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: double.stop())
    if arguments.with_parent:
        threading.Thread(target=_stop_with_parent, args=(double,), daemon=True).start()
    asyncio.run(double.serve(port=arguments.port, ready=lambda: _announce(double)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.double", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds from a request to its reply")
    parser.add_argument("--profile", choices=("anthropic", "llamacpp"), default="anthropic")
    parser.add_argument("--key", action="append", help=f"an API key that is valid; may be repeated; default {KEY}")
    parser.add_argument("--with-parent", action="store_true", help="stop when standard input is closed")
    return parser.parse_args()


def _announce(double: Double) -> None:
    line = {"base_url": double.base_url, "port": double.port, "profile": double.profile}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _stop_with_parent(double: Double) -> None:
    sys.stdin.read()
    double.stop()


if __name__ == "__main__":
    main()
