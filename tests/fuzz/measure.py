"""Which branches of its reader's modules a target's inputs reach.

    python tests/fuzz/measure.py TARGET FOLDER     prints JSON: branches, reached

The seeds, the target's folder in `corpus/` and FOLDER/corpus are read; nothing is fuzzed.
"""

from __future__ import annotations

import json
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import catalogue


def measured(name: str, folder: Path) -> dict[str, int]:
    """Branches of the target's modules, and how many of them were taken."""
    import coverage
    from oracle import Judge

    target = catalogue.target_named(name)
    files = [found.origin for module in target.modules if (found := find_spec(module))]
    watch = coverage.Coverage(branch=True, data_file=None, include=files, config_file=False)
    grown = sorted((folder / "corpus").glob("*"))
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryDirectory() as told:
        judge = Judge(target, target.prepare(Path(scratch)))
        watch.start()
        for data in (*target.seeds(), *catalogue.stored(name), *map(Path.read_bytes, grown)):
            judge(data)
        watch.stop()
        judge.close()
        report = Path(told) / "report.json"
        watch.json_report(outfile=str(report))
        totals = json.loads(report.read_text())["totals"]
    return {"branches": totals["num_branches"], "reached": totals["covered_branches"]}


if __name__ == "__main__":
    catalogue.reachable()
    print(json.dumps(measured(sys.argv[1], Path(sys.argv[2]))))
