"""What a frame is made of: bits and symbols by part, noted while it is coded.

It does not know how anything is coded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from shared_protocol.coding.image_codec import code_bits
from shared_protocol.coding.text_codec import TextCoder, packed_size
from shared_protocol.message.anatomy import Anatomy, Counts, PartBytes
from shared_protocol.message.parts import CodecBundle
from shared_protocol.session.kinds import VERSION
from shared_protocol.session.port import Port
from shared_protocol.tasks import Direction, Part, Scenario, Task


@dataclass
class Ledger:
    """Bits and symbols by part of one frame."""

    port: Port
    bits: dict[Part, float] = field(default_factory=dict)
    counts: dict[Part, int] = field(default_factory=dict)
    text_coder: TextCoder | None = None
    scenario: Scenario | None = None

    @contextmanager
    def part(self, part: Part) -> Iterator[None]:
        """Count what is coded in the block towards `part`."""
        before = self.port.bits
        yield
        self.bits[part] = self.bits.get(part, 0.0) + self.port.bits - before

    def anatomy(
        self, task: Task, direction: Direction, size: int, bundle: CodecBundle, extras: float
    ) -> Anatomy:
        """What `size` bytes were spent on; `extras` bits on parameters."""
        sizes = PartBytes(**_shares(self.bits, extras, size))
        counts = {part: self.counts.get(part, 0) for part in Part}
        text, codes = counts[Part.TEXT], counts[Part.IMAGE]
        code_size = code_bits(bundle.vocabulary.codebook_size)
        uniform = PartBytes(
            container=sizes.container,
            parameters=sizes.parameters,
            text=packed_size(text, bundle.vocabulary.text_size) if self.text_coder else 0,
            mask=(counts[Part.MASK] + 7) // 8,
            dropped=(counts[Part.DROPPED] + 7) // 8,
            image=(codes * code_size + 7) // 8,
            labels=sizes.labels,
        )
        return Anatomy(
            task=task,
            direction=direction,
            version=VERSION,
            fingerprint_prefix=bundle.fingerprint[:2],
            text_coder=self.text_coder,
            scenario=self.scenario,
            sizes=sizes,
            counts=Counts(
                text, counts[Part.MASK], codes, counts[Part.DROPPED], counts[Part.LABELS]
            ),
            uniform=uniform,
        )


def _shares(bits: dict[Part, float], extras: float, size: int) -> dict[str, int]:
    """Whole bytes by part that sum to `size`: bits do not end where bytes do."""
    exact = {part.slug: spent / 8 for part, spent in bits.items()} | {"parameters": extras / 8}
    exact["container"] = max(0.0, size - sum(exact.values()))
    shares = {name: int(value) for name, value in exact.items()}
    left = size - sum(shares.values())
    for name in sorted(exact, key=lambda name: shares[name] - exact[name])[: max(0, left)]:
        shares[name] += 1
    shares["container"] += size - sum(shares.values())
    return shares
