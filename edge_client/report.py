"""What an interaction cost, as data for machines and as tables for people.

It does not print, and knows neither files nor the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shared_protocol.errors import printable

if TYPE_CHECKING:
    from edge_client.client import Interaction
    from shared_protocol.message.anatomy import Anatomy, PartBytes
    from shared_protocol.message.picture_file import FileAnatomy

STAGES = (
    "tokenise",
    "choose",
    "connect",
    "encode",
    "network",
    "exchange",
    "server decode",
    "server queue",
    "model",
    "server encode",
    "decode",
    "detokenise",
)
"""Where the time of an interaction goes, in order; "choose" picks the tokens that are dropped,
"exchange" is the wait for a turn of a conversation, network and cloud together. Each reads its
weights when it first needs them."""
PARTS = {
    "text": "text",
    "mask": "mask",
    "dropped": "dropped tokens",
    "image": "image tokens",
    "labels": "labels",
    "parameters": "parameters",
    "container": "container",
}
"""Field of `PartBytes` to its name in a table, in the order of the rows."""

_CODED = ("text", "mask", "dropped", "image", "total")


def interaction_report(interaction: Interaction, way: str = "HTTP") -> dict[str, Any]:
    """Everything measured about an interaction, as JSON-ready data; `way` carried it."""
    height, width = interaction.canvas
    spent = interaction.milliseconds
    return {
        "task": interaction.task.slug,
        "canvas": [width, height],
        "uplink": anatomy_report(interaction.uplink, height * width),
        "downlink": anatomy_report(interaction.downlink, height * width),
        "milliseconds": {stage: round(spent[stage], 2) for stage in STAGES if stage in spent},
        "total_milliseconds": round(sum(spent.values()), 2),
        "wire": {
            "sent": interaction.wire.sent,
            "received": interaction.wire.received,
            "attempts": interaction.wire.attempts,
            "way": way,
            "opening": [interaction.opening.sent, interaction.opening.received],
            "progress": interaction.progress,
        },
        "warnings": list(interaction.warnings),
    }


def anatomy_report(anatomy: Anatomy, pixels: int | None = None) -> dict[str, Any]:
    """A message by its parts; `pixels` (source pixels) adds bits per pixel."""
    report: dict[str, Any] = {
        "task": anatomy.task.slug,
        "direction": anatomy.direction.slug,
        "version": anatomy.version,
        "bundle_prefix": anatomy.fingerprint_prefix.hex(),
        "text_coder": anatomy.text_coder.name.lower() if anatomy.text_coder is not None else None,
        "scenario": anatomy.scenario.slug if anatomy.scenario is not None else None,
        **_sizes(anatomy.sizes, pixels),
    }
    if anatomy.uniform is not None:
        report["uniform"] = _sizes(anatomy.uniform, pixels)
    if anatomy.counts is not None:
        counts = anatomy.counts
        report["symbols"] = {
            "text": counts.text_ids,
            "mask": counts.mask_flags,
            "dropped": counts.dropped_flags,
            "image": counts.image_codes,
            "labels": counts.labels,
        }
        if counts.image_codes:
            bits = anatomy.sizes.image * 8 / counts.image_codes
            report["bits_per_image_token"] = round(bits, 3)
    return report


def _sizes(sizes: PartBytes, pixels: int | None) -> dict[str, Any]:
    parts = {name: int(getattr(sizes, name)) for name in PARTS}
    found: dict[str, Any] = {"bytes": {**parts, "total": sizes.total}}
    if pixels:
        found["bpp"] = {name: round(n * 8 / pixels, 6) for name, n in found["bytes"].items()}
    return found


def interaction_table(report: Mapping[str, Any]) -> str:
    """The tables that a person sees after a result."""
    width, height = report["canvas"]
    rows = _size_rows("up", report["uplink"]) + _size_rows("down", report["downlink"])
    heading = ["", "", "bytes", "bpp", "uniform", "bpp", "saved"]
    lines = [
        table(heading, rows, left=2),
        f"bpp over {width}x{height} pixels; {_coding(report)}",
        "",
    ]
    spent = report["milliseconds"]
    stages = [[name, f"{spent[name]:,.1f} ms"] for name in STAGES if name in spent]
    stages.append(["all", f"{report['total_milliseconds']:,.1f} ms"])
    lines.append(table(["time", ""], stages))
    wire = report["wire"]
    lines.append(wire_line(wire))
    return "\n".join(lines)


def wire_line(wire: Mapping[str, Any]) -> str:
    """What an interaction moved over its link, on one line."""
    said = f"on the wire over {wire['way']}: {wire['sent']:,} bytes up, {wire['received']:,} down"
    opening, progress = wire["opening"], wire["progress"]
    parts = [f"opening {opening[0]:,} / {opening[1]:,}"] if any(opening) else []
    parts += [f"progress {progress:,}"] if progress else []
    said += f" (of these {', '.join(parts)})" if parts else ""
    return said + (f", {wire['attempts']} attempts" if wire["attempts"] > 1 else "")


def _size_rows(arrow: str, way: Mapping[str, Any]) -> list[list[str]]:
    """One row for each part that the message has: coded and uniform bytes, what that saves."""
    rows: list[list[str]] = []
    for name, label in {**PARTS, "total": "all"}.items():
        size, uniform = way["bytes"][name], way["uniform"]["bytes"][name]
        if size or uniform:
            saved = f"{1 - size / uniform:.0%}" if uniform and name in _CODED else ""
            bpp = [f"{way['bpp'][name]:.4f}", f"{way['uniform']['bpp'][name]:.4f}"]
            first = "" if rows else arrow
            rows.append([first, label, f"{size:,}", bpp[0], f"{uniform:,}", bpp[1], saved])
    return rows


def _coding(report: Mapping[str, Any]) -> str:
    ways = []
    for way, arrow in (("uplink", "up"), ("downlink", "down")):
        names = [report[way][key] for key in ("text_coder", "scenario") if report[way][key]]
        ways += [f"{arrow} {' + '.join(names)}"] if names else []
    return "coded " + ", ".join(ways)


def message_table(report: Mapping[str, Any]) -> str:
    """The anatomy of one message, for a person."""
    facts = [
        f"{report['task']} {report['direction']}, format version {report['version']}, "
        f"bundle {report['bundle_prefix']}…"
    ]
    has_uniform, has_bpp = "uniform" in report, "bpp" in report
    rows = []
    for name, label in {**PARTS, "total": "all"}.items():
        size = report["bytes"][name]
        if not size and name != "total":
            continue
        row = [label, _coder(report, name), f"{size:,}"]
        row += [f"{report['bpp'][name]:.4f}"] if has_bpp else []
        row += [f"{report['uniform']['bytes'][name]:,}"] if has_uniform else []
        rows.append(row)
    heading = ["part", "coder", "bytes"] + ["bpp"] * has_bpp + ["uniform"] * has_uniform
    facts.append(table(heading, rows, left=2))
    if "bits_per_image_token" in report:
        facts.append(f"{report['bits_per_image_token']:.2f} bits per image token")
    return "\n".join(facts)


def file_report(
    anatomy: FileAnatomy, metadata: Mapping[str, Any], pixels: int | None = None
) -> dict[str, Any]:
    """A picture file by its parts; `pixels` (source pixels) adds bits per pixel."""
    sizes = {
        "image": anatomy.image,
        "metadata": anatomy.metadata,
        "envelope": anatomy.envelope,
        "total": anatomy.total,
    }
    height, width = anatomy.grid
    report: dict[str, Any] = {
        "file_version": anatomy.version,
        "grid": [height, width],
        "tokenizer": anatomy.tokenizer.hex(),
        "entropy_model": None if anatomy.entropy is None else anatomy.entropy.hex(),
        "bytes": sizes,
        "bits_per_image_token": round(anatomy.image * 8 / (height * width), 3),
        "metadata": dict(metadata),
    }
    if anatomy.uniform is not None:
        report["uniform"] = {"bytes": {**sizes, "image": anatomy.uniform}}
        report["uniform"]["bytes"]["total"] += anatomy.uniform - anatomy.image
    if pixels:
        report["bpp"] = {name: round(size * 8 / pixels, 6) for name, size in sizes.items()}
    return report


def file_table(report: Mapping[str, Any]) -> str:
    """The anatomy of one picture file, for a person."""
    height, width = report["grid"]
    coder = report["entropy_model"]
    coding = "13 bits a token" if coder is None else f"entropy model {coder}…"
    has_bpp = "bpp" in report
    rows = [
        [name, f"{size:,}", *([f"{report['bpp'][name]:.4f}"] if has_bpp else [])]
        for name, size in report["bytes"].items()
        if size
    ]
    lines = [
        f"picture of {height}x{width} tokens, file version {report['file_version']}, "
        f"tokenizer {report['tokenizer']}…, {coding}",
        table(["part", "bytes"] + ["bpp"] * has_bpp, rows),
        f"{report['bits_per_image_token']:.2f} bits per image token",
    ]
    said = [[printable(name, 40), printable(str(v), 100)] for name, v in report["metadata"].items()]
    return "\n".join([*lines, "", table(["metadata", ""], said, left=2)] if said else lines)


def _coder(report: Mapping[str, Any], part: str) -> str:
    key = {"text": "text_coder", "image": "scenario"}.get(part, "")
    return str(report.get(key) or "")


def table(heading: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Aligned columns under a rule; the first `left` columns are flush left, the rest right.

    >>> print(table(["", "bytes"], [["text", "7"], ["all", "19"]]))
          bytes
    -----------
    text      7
    all      19
    """
    lines = [list(heading), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heading))]
    text = [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    text.insert(1, "-" * (sum(widths) + 2 * (len(widths) - 1)))
    return "\n".join(text)
