"""Fuzzes one target in this process, guided by the branches that inputs reach (libFuzzer, Atheris).

    python tests/fuzz/one_target.py TARGET FOLDER [options of libFuzzer]

FOLDER holds the target's growing corpus (`corpus`) and what was found (`findings`). A finding does
not end the run; what ends the process itself (a crash in C, a hang, memory without bound) does,
and libFuzzer leaves its input beside the others.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import catalogue
from oracle import Judge, limit_memory

HANG_S = 20
WATCHED = ["shared_protocol", "edge_client", "cloud_server", "PIL"]
"""Packages whose branches guide the fuzzer."""


def begin(name: str, folder: Path, options: list[str]) -> None:
    """Fuzz until libFuzzer's options say to stop; does not return."""
    import atheris

    findings, corpus = folder / "findings", folder / "corpus"
    for place in (findings, corpus):
        place.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=_memory_disk())))
        with atheris.instrument_imports(include=WATCHED, enable_loader_override=False):
            target = catalogue.target_named(name)
            judge = Judge(target, target.prepare(scratch))
            inputs = [*target.seeds(), *catalogue.stored(name)]
            for data in inputs:
                judge(data)
        for data in inputs:
            (corpus / hashlib.sha1(data).hexdigest()).write_bytes(data)
        words = folder / "words"
        words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words))
        limit_memory()

        def one(data: bytes) -> None:
            found = judge(data)
            if found is not None:
                note(findings, found.name, data, found.detail)

        arguments = [
            sys.argv[0],
            str(corpus),
            f"-max_len={target.longest}",
            f"-timeout={HANG_S}",
            "-rss_limit_mb=8192",
            "-print_final_stats=1",
            f"-artifact_prefix={findings}/",
            *([f"-dict={words}"] if target.words else []),
            *options,
        ]
        atheris.Setup(arguments, one)
        atheris.Fuzz()


def note(findings: Path, name: str, data: bytes, detail: str) -> None:
    """Keep the shortest input of each kind of finding, and what was seen."""
    file = findings / f"{name}.input"
    if file.exists() and file.stat().st_size <= len(data):
        return
    if not file.exists():
        print(f"FINDING {name}: {detail.splitlines()[-1] if detail else ''}", flush=True)
    file.write_bytes(data)
    file.with_suffix(".txt").write_text(detail)


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def _memory_disk() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


if __name__ == "__main__":
    catalogue.reachable()
    begin(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
