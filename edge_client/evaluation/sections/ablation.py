"""The entropy models beside each other (the paper's Table VI): the same tokens under each of them.

The tokens are those of the interactions of the four tasks, and each number is the size of a message
that was encoded and decoded again to the same tokens. A model that Table I does not allow on a
stream, such as the masked one on a whole picture, codes the same tokens offline: given what both
ends hold, outside of any message, and decoded again as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge_client.evaluation.context import Context, Section
from edge_client.evaluation.interactions import Talk, request_of, run_task
from edge_client.evaluation.tables.results import Cell, Plot, Series, Table
from shared_protocol.cases import TASKS
from shared_protocol.errors import ConfigError, InternalError
from shared_protocol.message.anatomy import Anatomy
from shared_protocol.message.codec import (
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from shared_protocol.messages import Request, Response
from shared_protocol.selfcheck import witness
from shared_protocol.selfcheck.trials import Recorder, with_models
from shared_protocol.tasks import Direction, Scenario
from shared_protocol.tokens import Flags, ImageTokens

TITLE = "Entropy models"
_NAMES = tuple(scenario.slug for scenario in Scenario)
OFFLINE = "offline only"
_LACKING = "no such model in the bundle"
_WITNESS = 2
"""Where constriction's length stands among the sizes of a message."""


def run(context: Context) -> Section:
    """Code the tokens of every interaction under every model."""
    records = context.records("ablation")
    measured: dict[str, list[dict[str, Any]]] = {}
    for task in TASKS:
        if not context.cases(task):
            continue
        for talk in context.track(_one_a_picture(run_task(context, task)), f"ablation {task}"):
            if not _complete(records.get(talk.case.id)):
                streams = measure(context, talk)
                records.add({"id": talk.case.id, "streams": streams})
            for name, sizes in records[talk.case.id]["streams"].items():
                measured.setdefault(name, []).append(sizes)
    if not measured:
        raise ConfigError(f"{context.data.folder} holds no cases", "name other data")
    return Section("ablation", TITLE, _tables(measured), (_plot(measured),))


def _complete(record: Mapping[str, Any] | None) -> bool:
    """Whether a record tells of every model; older ones have only those that Table I allows."""
    return record is not None and all("offline" in one for one in record["streams"].values())


def _one_a_picture(talks: Sequence[Talk]) -> list[Talk]:
    """Questions about one picture carry the same tokens, so that only the first one counts."""
    first = {
        talk.case.image if talk.case.task == "vqa" else talk.case.id: talk
        for talk in [*talks][::-1]
    }
    return list(first.values())[::-1]


def measure(context: Context, talk: Talk) -> dict[str, dict[str, Any]]:
    """Stream -> {"tokens": number, scenario: [bytes of the image part, of the message, witness]}.

    "offline" lists the scenarios that no message may use; the message around them is another one's.

    Raises:
        InternalError: a message does not decode to what was encoded.
    """
    bundle, request = context.bundle, request_of(context, talk.case)
    found: dict[str, dict[str, Any]] = {}
    if request.image is not None:
        sizes, coder = {}, Recorder(context.bundle.entropy)
        for scenario in _scenarios(context, request, Direction.UPLINK):
            sizes[scenario.slug] = _uplink(context, request, scenario, coder)
        found[f"{talk.case.task} up"] = _with_offline(context, sizes, coder) | {
            "tokens": int(_travels(request).sum())
        }
    if talk.record.tokens is not None:
        codes = np.array(talk.record.tokens, dtype=np.int32)
        image = ImageTokens(codes, bundle.vocabulary.codebook_size)
        response = Response(request.task, image=image)
        sizes, coder = {}, Recorder(context.bundle.entropy)
        for scenario in _scenarios(context, request, Direction.DOWNLINK):
            sizes[scenario.slug] = _downlink(context, (request, response), scenario, coder)
        found[f"{talk.case.task} down"] = _with_offline(context, sizes, coder) | {
            "tokens": int(request.known(bundle.grid)[1].sum())
        }
    return found


def _with_offline(
    context: Context, sizes: Mapping[str, list[int]], coder: Recorder
) -> dict[str, Any]:
    """`sizes`, and those of the models that no message of this kind may use."""
    if coder.last is None:
        return {**sizes, "offline": []}
    _, codes, known, _ = coder.last
    around = min(size[1] - size[0] for size in sizes.values())
    offline = {}
    for scenario in context.bundle.entropy.available():
        if scenario.slug not in sizes:
            data = coder.models.encode(scenario, codes, known)
            if not np.array_equal(coder.models.decode(scenario, data, known), codes):
                raise InternalError(f"{scenario.slug} does not decode what it coded", "report it")
            offline[scenario.slug] = [len(data), around + len(data)]
    return {**sizes, **offline, "offline": list(offline)}


def _scenarios(context: Context, request: Request, way: Direction) -> list[Scenario]:
    available = context.bundle.entropy.available()
    return [Scenario.UNIFORM, *(s for s in request.row.scenarios(way) if s in available)]


def _travels(request: Request) -> Flags:
    """(H, W) bool, True where the token of the request's image is sent."""
    assert request.image is not None
    if request.left_out is None:
        return np.ones(request.image.shape, dtype=bool)
    return ~request.left_out


def _uplink(context: Context, request: Request, scenario: Scenario, coder: Recorder) -> list[int]:
    encoded = encode_request(request, _recording(context, coder), scenario)
    decoded = decode_request(encoded.data, context.bundle).value
    assert request.image is not None
    sent = _travels(request)
    same = decoded.image is not None and np.array_equal(
        decoded.image.codes[sent], request.image.codes[sent]
    )
    return _sizes(encoded.anatomy, coder, scenario, same and decoded.text == request.text)


def _downlink(
    context: Context, messages: tuple[Request, Response], scenario: Scenario, coder: Recorder
) -> list[int]:
    request, response = messages
    encoded = encode_response(response, request, _recording(context, coder), scenario)
    decoded = decode_response(encoded.data, request, context.bundle).value
    return _sizes(encoded.anatomy, coder, scenario, decoded.image == response.image)


def _recording(context: Context, coder: Recorder) -> Any:
    """The bundle with entropy models that remember what they code; a `CodecBundle`."""
    return with_models(context.bundle, coder)  # type: ignore[arg-type]


def _sizes(anatomy: Anatomy, coder: Recorder, scenario: Scenario, same: bool) -> list[int]:
    """Bytes of the image part and of the message; with a model also constriction's image part."""
    if not same:
        raise InternalError("a message did not decode to what was encoded", "report it")
    sizes = [anatomy.sizes.image, anatomy.sizes.total]
    last = coder.last
    if last is not None and last[0] is scenario and witness.is_available():
        sizes.append(witness.stream_bytes(coder.models.intervals(*last[:3])))
    return sizes


def _tables(measured: Mapping[str, Sequence[Mapping[str, Any]]]) -> tuple[Table, ...]:
    bits: list[tuple[Cell, ...]] = []
    sizes: list[tuple[Cell, ...]] = []
    for stream, entries in measured.items():
        tokens = sum(entry["tokens"] for entry in entries)
        parts = {name: [e[name][0] for e in entries if name in e] for name in _NAMES}
        wholes = {name: [e[name][1] for e in entries if name in e] for name in _NAMES}
        head = (stream, len(entries), tokens)
        offline = ", ".join(dict.fromkeys(n for e in entries for n in e.get("offline", ())))
        last = (offline or "–",)
        values = [8.0 * sum(parts[n]) / tokens if parts[n] else _LACKING for n in _NAMES]
        bits.append((*head, *values, *last))
        means = [float(np.mean(wholes[n])) if wholes[n] else _LACKING for n in _NAMES]
        sizes.append((*head, *means, *last))
    columns = ("stream", "messages", "tokens", *_NAMES, OFFLINE)
    notes = (
        "Every message was decoded again and gave the same tokens.",
        f"{OFFLINE}: models that Table I does not allow on the stream; they code the same tokens "
        "given the same knowledge outside of a message, and their bytes of a whole message are the "
        "smallest frame of a model that is allowed and their image part.",
        "adapted: the text-conditioned model fitted to what the backbone draws.",
    )
    return (
        Table("ablation-bits", "Bits per image token", columns, tuple(bits), notes),
        Table("ablation-bytes", "Mean bytes of whole messages", columns, tuple(sizes), notes[1:]),
        _witness_table(measured),
    )


def _witness_table(measured: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    """Image parts beside what an independent coder makes of the same symbols and tables."""
    rows: list[tuple[Cell, ...]] = []
    for stream, entries in measured.items():
        for name in _NAMES:
            pairs = [e[name] for e in entries if name in e and len(e[name]) > _WITNESS]
            if pairs:
                ours, theirs = np.mean([(pair[0], pair[_WITNESS]) for pair in pairs], axis=0)
                rows.append((stream, name, len(pairs), float(ours), float(theirs)))
    columns = ("stream", "model", "messages", "range coder", "constriction")
    notes = ("constriction writes whole 32-bit words: up to four bytes more.",)
    title = "Mean bytes of image parts, by the range coder and by an independent one"
    return Table("ablation-witness", title, columns, tuple(rows), notes)


def _plot(measured: Mapping[str, Sequence[Mapping[str, Any]]]) -> Plot:
    series = []
    for name in _NAMES:
        streams = [s for s, entries in measured.items() if name in entries[0]]
        bits = [
            8.0 * sum(e[name][0] for e in measured[s]) / sum(e["tokens"] for e in measured[s])
            for s in streams
        ]
        if streams:
            series.append(Series(name, streams, bits))
    return Plot(
        "ablation", "Entropy models", "stream", "bits per image token", tuple(series), "bar"
    )
