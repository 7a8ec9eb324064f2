"""What the page is told: rounds, turns and the device, as JSON.

It does not know HTTP.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from edge_client.gateway.desk.desk import MOST_ROUNDS, Round, TurnTaken
from edge_client.gateway.desk.lattice import Lattice, extension_of
from edge_client.gateway.desk.pixel_formats import available
from edge_client.gateway.service import Gateway
from edge_client.session.cost import TurnCost
from shared_protocol.errors import printable
from shared_protocol.message.anatomy import PartBytes
from shared_protocol.messages import MAX_GUIDANCE, MAX_MENDS, MAX_STEPS
from shared_protocol.tokens import MAX_GRID

_LONGEST_ANSWER = 4096


def about_desk(gateway: Gateway) -> dict[str, Any]:
    """The device, its bundle, and what may be asked."""
    bundle, defaults = gateway.bundle, gateway.bundle.defaults
    return {
        "model": gateway.model,
        "server": gateway.server,
        "grid": list(bundle.grid),
        "stride": bundle.stride,
        "formats": available(),
        "defaults": {"steps": defaults.steps, "guidance": defaults.guidance},
        "most": {
            "steps": MAX_STEPS,
            "guidance": MAX_GUIDANCE,
            "mend": MAX_MENDS,
            "grid": MAX_GRID,
            "rounds": MOST_ROUNDS,
        },
    }


def told_of_round(kept: Round) -> dict[str, Any]:
    """A round."""
    return {
        "name": kept.name,
        "before": kept.before,
        "task": kept.task,
        "text": kept.text,
        "size": list(kept.source.size),
        "cells": Lattice.of(kept.source).told(),
        "extension": extension_of(kept.source),
        "options": dict(kept.options),
        "sizes": dict(kept.sizes),
        "warnings": list(kept.warnings),
        "created": round(kept.created, 3),
    }


def told_of_turn(turn: TurnTaken) -> dict[str, Any]:
    """A turn."""
    answer = turn.answer
    return {
        "number": turn.number,
        "task": turn.task,
        "text": turn.text,
        "about": turn.about,
        "made": turn.made,
        "answer": None if answer is None else printable(answer, _LONGEST_ANSWER),
        "cost": told_of_cost(turn.cost),
        "pictures": {name: both and list(both) for name, both in turn.pictures.items()},
        "warnings": list(turn.warnings),
    }


def told_of_cost(cost: TurnCost) -> dict[str, Any]:
    """Bytes of a turn: by part, of its messages, and all that the link carried."""
    ups = (cost.parts_up, cost.payload_up, cost.all_up, 0)
    downs = (cost.parts_down, cost.payload_down, cost.all_down, cost.progress)
    return {
        **{way: _told_of_way(*found) for way, found in (("up", ups), ("down", downs))},
        "opening": [cost.opening_up, cost.opening_down],
        "seconds": round(cost.seconds, 3),
        "tokens_sent": cost.image_sent,
    }


def _told_of_way(parts: PartBytes, payload: int, everything: int, progress: int) -> dict[str, Any]:
    return {"parts": asdict(parts), "payload": payload, "all": everything, "progress": progress}
