"""From what one turn costs to what a million users a day take: the tables of notes/scale.md.

`python -m cloud_server.benchmarks.capacity_plan` prints them again, `--users N` those for another
number. What was measured and what is assumed stand below, each with its source; nothing is measured
here.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

DAY_S, HOUR_S = 86_400, 3_600
KIB, GIB = 1 << 10, 1 << 30


@dataclass(frozen=True)
class Measured:
    """One H200 with random weights of Show-o's size (benchmarks/results/h200.md), and the rest.

    Args:
        picture_s: seconds of the GPU for requests in one pass, a picture of 256 px in 16 steps,
            bfloat16, captured passes: by how many share the pass.
        answer_s: the same for an answer of 64 tokens.
        gpu_gb: memory of the GPU while eight pictures are drawn.
        encode_ms, decode_ms: processor for a picture's tokens, numpy and C, one at a time
            (`unit_costs`, one core of the machine with two).
        http_ms: processor for a request around that (`unit_costs`).
        replica_mib: resident memory of a server, built-in weights (`unit_costs`).
        conversation_kib: resident memory of an open conversation (`unit_costs`).
        picture_bytes: memory of a picture of a conversation (`unit_costs`).
        up_bytes, down_bytes: a conversation of eight turns about a photograph, on the wire
            (README, `make bench-sessions`).
        opening_up, opening_down: of its WebSocket, `Session` included.
        jpeg_bytes: the photograph at 256x256 as a JPEG of quality 75 (`unit_costs --picture`).
    """

    picture_s: tuple[tuple[int, float], ...] = (
        (1, 0.125),
        (2, 0.172),
        (4, 0.291),
        (8, 0.517),
        (16, 1.0),
    )
    answer_s: tuple[tuple[int, float], ...] = (
        (1, 0.21),
        (2, 0.231),
        (4, 0.276),
        (8, 0.356),
        (16, 0.487),
    )
    gpu_gb: float = 5.02
    encode_ms: float = 32.0
    decode_ms: float = 21.2
    http_ms: float = 3.0
    replica_mib: float = 519.0
    conversation_kib: float = 30.0
    picture_bytes: int = 1792
    up_bytes: int = 370
    down_bytes: int = 81
    opening_up: int = 200
    opening_down: int = 132
    jpeg_bytes: int = 11_616


@dataclass(frozen=True)
class Assumed:
    """What nobody measured.

    Args:
        users: in a day, each with one conversation.
        pictures, answers: turns of each kind in it, those of `make bench-sessions`.
        minutes: that its link stays open.
        peak_share: part of a day's conversations that begin in the busiest hour.
        busy: part of the time that a GPU may be busy, so that a turn does not wait long.
        shared: how many turns share a pass on average.
        cores: processors beside a GPU.
        kept_minutes: that pictures stay after their last use, as `--picture-ttl` says.
        tls_up, tls_down: bytes of a TLS 1.3 handshake with a chain of two certificates.
        packet_bytes: heads of TCP, IP and TLS around one frame, confirmation included.
    """

    users: int = 1_000_000
    pictures: int = 3
    answers: int = 5
    minutes: float = 5.0
    peak_share: float = 0.10
    busy: float = 0.6
    shared: int = 4
    cores: int = 4
    kept_minutes: float = 10.0
    tls_up: int = 700
    tls_down: int = 3_500
    packet_bytes: int = 120


@dataclass(frozen=True)
class Plan:
    """What follows from both.

    Args:
        measured: unit costs.
        assumed: who comes, and when.
    """

    measured: Measured
    assumed: Assumed

    @property
    def gpu_s(self) -> float:
        """Seconds of a GPU for one conversation, in passes that `shared` turns share."""
        shared = self.assumed.shared
        picture = dict(self.measured.picture_s)[shared] / shared
        answer = dict(self.measured.answer_s)[shared] / shared
        return self.assumed.pictures * picture + self.assumed.answers * answer

    @property
    def core_s(self) -> float:
        """Seconds of a processor: a picture decoded, those that are made encoded, HTTP around."""
        found, turns = self.measured, self.assumed.pictures + self.assumed.answers
        coding = found.decode_ms + self.assumed.pictures * found.encode_ms
        return (coding + turns * found.http_ms) / 1000

    @property
    def peak_rate(self) -> float:
        """Conversations that begin each second of the busiest hour."""
        return self.assumed.users * self.assumed.peak_share / HOUR_S

    @property
    def replicas_at_peak(self) -> int:
        """Replicas with a GPU each, in the busiest hour."""
        return math.ceil(self.peak_rate * self.gpu_s / self.assumed.busy)

    @property
    def gpu_hours(self) -> float:
        """Of a day, if there are as many replicas as each hour needs."""
        return self.assumed.users * self.gpu_s / HOUR_S / self.assumed.busy

    @property
    def open_at_peak(self) -> float:
        """Conversations that are open at once in the busiest hour."""
        return self.peak_rate * self.assumed.minutes * 60

    @property
    def pictures_kept(self) -> float:
        """Pictures in memory at the peak: the first and those that were made."""
        minutes = self.assumed.minutes + self.assumed.kept_minutes
        return self.peak_rate * minutes * 60 * (1 + self.assumed.pictures)

    def wire(self, secure: bool) -> tuple[float, float]:
        """Bytes up and down of a conversation, its opening included.

        Args:
            secure: with TLS and the heads of packets, which no measure of ours counts.
        """
        found, given = self.measured, self.assumed
        up, down = found.up_bytes + found.opening_up, found.down_bytes + found.opening_down
        if not secure:
            return up, down
        packets = given.packet_bytes * (given.pictures + given.answers + 2)
        return up + given.tls_up + packets, down + given.tls_down + packets

    def jpeg(self) -> tuple[float, float]:
        """Bytes up and down of the same in JPEGs: a picture up once, each new one down.

        Words, masks and TLS are left out.
        """
        return self.measured.jpeg_bytes, self.assumed.pictures * self.measured.jpeg_bytes


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _size(count: float) -> str:
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:,.1f} {unit}"
    return f"{count:,.0f} B"


def needs(plan: Plan) -> str:
    """What is needed, as a table."""
    given, peak = plan.assumed, plan.replicas_at_peak
    cores = plan.peak_rate * plan.core_s / given.busy
    opened, kept = plan.open_at_peak, plan.pictures_kept
    links = opened * plan.measured.conversation_kib * KIB / GIB
    pictures = kept * plan.measured.picture_bytes / GIB
    hours = peak * DAY_S / HOUR_S
    rows = [
        ("conversations a second, busiest hour", f"{plan.peak_rate:.1f}"),
        ("turns a second, busiest hour",
         f"{plan.peak_rate * (given.pictures + given.answers):.0f}"),
        ("GPU seconds a conversation", f"{plan.gpu_s:.3f}"),
        ("replicas with a GPU, busiest hour", f"{peak}"),
        ("replicas, mean hour", f"{math.ceil(plan.gpu_hours / 24)}"),
        ("GPU hours a day, as many as needed / always the peak",
         f"{plan.gpu_hours:,.0f} / {hours:,.0f}"),
        ("processor seconds a conversation, without the model", f"{plan.core_s:.3f}"),
        ("cores for that, busiest hour / there are", f"{cores:.0f} / {peak * given.cores}"),
        ("memory of replicas, without the GPU's",
         f"{peak * plan.measured.replica_mib / KIB:.0f} GiB"),
        ("memory of a GPU", f"{plan.measured.gpu_gb:.1f} GB"),
        ("open conversations, all / a replica", f"{opened:,.0f} / {opened / peak:.0f}"),
        ("memory of those", f"{links:.2f} GiB"),
        ("pictures of conversations in memory, and their size", f"{kept:,.0f}, {pictures:.2f} GiB"),
    ]  # fmt: skip
    return "\n".join([_row("needed", ""), "| --- | ---: |", *(_row(*each) for each in rows)])


def network(plan: Plan) -> str:
    """Bytes of a conversation, of a day and of the busiest second, as a table."""
    tokens, secure, jpeg = plan.wire(False), plan.wire(True), plan.jpeg()
    extra = secure[0] - tokens[0], secure[1] - tokens[1]
    ways = [
        ("tokens, as measured", tokens),
        ("tokens, with TLS and heads of packets", secure),
        ("JPEG, quality 75", jpeg),
        ("JPEG, with the same TLS and heads", (jpeg[0] + extra[0], jpeg[1] + extra[1])),
    ]
    lines = [
        _row("", "up, a conversation", "down", "a day, both ways", "busiest hour, Mbit/s"),
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, (up, down) in ways:
        day = _size((up + down) * plan.assumed.users)
        rate = f"{(up + down) * 8 * plan.peak_rate / 1e6:.2f}"
        lines.append(_row(name, _size(up), _size(down), day, rate))
    return "\n".join(lines)


def shared_passes(measured: Measured, assumed: Assumed) -> str:
    """How much hangs on how many turns share a pass, as a table."""
    lines = [
        _row("turns in a pass", "GPU s a conversation", "replicas at peak", "a picture takes s"),
        "| ---: | ---: | ---: | ---: |",
    ]
    for shared, seconds in measured.picture_s:
        plan = Plan(measured, Assumed(users=assumed.users, shared=shared))
        cells = f"{plan.gpu_s:.3f}", f"{plan.replicas_at_peak}", f"{seconds:.2f}"
        lines.append(_row(str(shared), *cells))
    return "\n".join(lines)


def tables(users: int) -> str:
    """All tables for so many users a day."""
    plan = Plan(Measured(), Assumed(users=users))
    parts = [needs(plan), network(plan), shared_passes(plan.measured, plan.assumed)]
    return "\n\n".join(parts) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="The tables of notes/scale.md.")
    parser.add_argument("--users", type=int, default=Assumed().users, help="a day [%(default)s]")
    sys.stdout.write(tables(parser.parse_args(argv).users))
    return 0


if __name__ == "__main__":
    sys.exit(main())
