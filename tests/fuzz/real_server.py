"""Random requests to a real server with the built-in models, checked against its own documentation.

    python tests/fuzz/real_server.py --minutes 5

Unlike the tests, which ask a server with a fake engine the same questions each time, this asks
new ones each time; --seed asks those of an earlier run.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import catalogue

catalogue.reachable()

import schemathesis  # noqa: E402 - the fakes are reachable only now
from clients import good_requests  # noqa: E402
from damage import bodies  # noqa: E402
from hypothesis import HealthCheck, given, seed, settings  # noqa: E402
from schemathesis.specs.openapi.checks import positive_data_acceptance  # noqa: E402

from edge_client.spawn import spawned_server  # noqa: E402
from shared_protocol.bundles.find import load_bundle  # noqa: E402
from shared_protocol.message.codec import encode_request  # noqa: E402

KEY = "key"
KEY_HEADER = {"Authorization": f"Bearer {KEY}"}
FLAGS = ("--api-key", KEY, "--max-grid", "24", "--max-steps", "8", "--log-level", "warning")
REQUEST_S = 120.0
EXAMPLES = 10
"""Of one operation at a time, so that all operations come to their turn."""
QUIET = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def check_operation(operation: Any, number: int, counts: Counter[int]) -> None:
    """Some random cases of one operation; raises what is not as documented."""

    @QUIET
    @seed(number)
    @given(case=operation.as_strategy())
    def check(case: Any) -> None:
        # "binary" says nothing of what a message is, so most bodies are rightly refused.
        reply = case.call_and_validate(
            headers=KEY_HEADER,
            excluded_checks=[positive_data_acceptance],
            timeout=REQUEST_S,
        )
        counts[reply.status_code] += 1
        assert reply.status_code < 500, reply.text

    check()


def main(argv: Sequence[str] | None = None) -> int:
    """Ask until the time is up; 1 if a reply was not as documented."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0, help="in all [%(default)s]")
    parser.add_argument("--share", type=float, default=1.0, help="of the minutes [%(default)s]")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    args = parser.parse_args(argv)
    bundle = load_bundle()
    messages = [encode_request(each, bundle).data for each in good_requests(bundle).values()]
    schemathesis.openapi.media_type("application/msgpack", bodies(messages))
    counts: dict[str, Counter[int]] = {}
    print(f"seed {args.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with spawned_server(log, flags=FLAGS) as server:
            schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json", headers=KEY_HEADER)
            operations = [found.ok() for found in schema.get_all_operations()]
            end, number = time.monotonic() + args.minutes * args.share * 60, args.seed
            faults: dict[str, str] = {}
            while time.monotonic() < end:
                for operation in operations:
                    number += 1
                    seen = counts.setdefault(operation.label, Counter())
                    try:
                        check_operation(operation, number, seen)
                    except Exception as error:  # whatever a check raises is what we look for
                        told = "; ".join(map(str, (error, *getattr(error, "exceptions", ()))))
                        faults.setdefault(operation.label, f"seed {number}: {told}")
        logged = log.read_text(errors="replace")
    for label, seen in sorted(counts.items()):
        told = ", ".join(f"{status}: {many}" for status, many in sorted(seen.items()))
        print(f"{label:<44}{sum(seen.values()):>7}  {told}")
    for label, fault in faults.items():
        print(f"FAULT {label}: {fault}")
    if "Traceback" in logged:
        print(logged[-3000:])
    total = sum(sum(seen.values()) for seen in counts.values())
    print(f"{total} requests, {len(faults)} faults")
    return int(bool(faults) or "Traceback" in logged)


if __name__ == "__main__":
    sys.exit(main())
