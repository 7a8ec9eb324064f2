"""`t2i`, `inpaint`, `outpaint` and `vqa`: what the four tasks' commands do.

It does not print, and leaves the interaction itself to `client`. Imports are local, so that a wrong
argument is told before anything heavy is loaded.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_client.commands.outcome import Outcome, exposed_key, picture_output, source_picture
from edge_client.config import Settings
from edge_client.report import interaction_report, interaction_table
from shared_protocol.compute import Compute
from shared_protocol.errors import MaskError
from shared_protocol.messages import OnStep

if TYPE_CHECKING:
    from edge_client.client import EdgeClient, Interaction
    from edge_client.pictures.images import Picture
    from edge_client.rate_control import Budget
    from shared_protocol.bundles.bundle import Bundle
    from shared_protocol.tokens import TokenMask

_NOTICEABLE = 0.02
"""Share of a mask that may vanish in silence."""


@dataclass(frozen=True)
class _Done:
    """An interaction, notes on its input, and warnings."""

    interaction: Interaction
    notes: list[str]
    warnings: list[str]


def t2i(given: Namespace, settings: Settings, on_step: OnStep | None) -> Outcome:
    """A picture from a prompt."""

    def ask(client: EdgeClient, bundle: Bundle) -> _Done:
        return _Done(client.t2i(given.prompt, _options(given)), [], [])

    return _interact(given, settings, on_step, ask)


def inpaint(given: Namespace, settings: Settings, on_step: OnStep | None) -> Outcome:
    """A picture with its masked part regenerated."""
    return _interact(given, settings, on_step, lambda *ends: _inpaint(given, *ends))


def outpaint(given: Namespace, settings: Settings, on_step: OnStep | None) -> Outcome:
    """A picture continued beyond its edges."""
    return _interact(given, settings, on_step, lambda *ends: _outpaint(given, *ends))


def vqa(given: Namespace, settings: Settings, on_step: OnStep | None) -> Outcome:
    """An answer to a question about a picture."""
    return _interact(given, settings, on_step, lambda *ends: _vqa(given, *ends))


def _interact(
    given: Namespace,
    settings: Settings,
    on_step: OnStep | None,
    ask: Callable[[EdgeClient, Bundle], _Done],
) -> Outcome:
    from edge_client.client import EdgeClient
    from edge_client.transport.schemes import open_transport
    from shared_protocol.bundles.find import load_bundle

    # All that can be checked here is checked before anything is loaded or sent.
    output = None if given.command == "vqa" else picture_output(given)
    bundle = load_bundle(settings.bundle, Compute.named(settings.compute))
    with open_transport(settings.server, settings.api_key, settings.timeout) as transport:
        done = ask(EdgeClient(bundle, transport, on_step), bundle)
    interaction, notes = done.interaction, done.notes
    data = {
        **_result(interaction, output),
        "bundle": bundle.name,
        "seed": given.seed,
        "notes": notes,
        **interaction_report(interaction),
    }
    data["warnings"] = [*exposed_key(settings), *done.warnings, *data["warnings"]]
    result = str(output) if interaction.answer is None else _shown(interaction.answer)
    details = "\n".join(
        [*notes, "", interaction_table(data)] if notes else [interaction_table(data)]
    )
    return Outcome(result, data, details, tuple(data["warnings"]))


def _shown(answer: str) -> str:
    """A model's words without characters that would steer a terminal."""
    return "".join(char if char.isprintable() or char == "\n" else " " for char in answer)


def _inpaint(given: Namespace, client: EdgeClient, bundle: Bundle) -> _Done:
    from dataclasses import replace

    from edge_client.pictures.masks import paste_outside

    picture = source_picture(given, bundle)
    tokens, notes, warnings = _token_mask(given, bundle, picture)
    budget = _budget(given)
    interaction = client.inpaint(picture.pixels, tokens, given.prompt, _options(given), budget)
    if given.composite and interaction.pixels is not None:
        merged = paste_outside(picture.pixels, interaction.pixels, tokens)
        interaction = replace(interaction, pixels=merged)
        notes.append("pixels outside the mask are the photo's own")
    notes = [picture.description, *notes, *_dropped(interaction, bundle)]
    return _Done(interaction, notes, warnings)


def _outpaint(given: Namespace, client: EdgeClient, bundle: Bundle) -> _Done:
    from shared_protocol.tasks import Extension

    picture = source_picture(given, bundle)
    extension = Extension(given.left, given.right, given.up, given.down)
    options, budget = _options(given), _budget(given)
    interaction = client.outpaint(picture.pixels, extension, given.prompt, options, budget)
    return _Done(interaction, [picture.description, *_dropped(interaction, bundle)], [])


def _vqa(given: Namespace, client: EdgeClient, bundle: Bundle) -> _Done:
    from shared_protocol.messages import Options

    picture = source_picture(given, bundle)
    options = Options(seed=given.seed, max_new_tokens=given.max_new_tokens)
    interaction = client.vqa(picture.pixels, given.question, options, _budget(given))
    return _Done(interaction, [picture.description, *_dropped(interaction, bundle)], [])


def _options(given: Namespace) -> Any:
    from shared_protocol.messages import Options

    return Options(steps=given.steps, guidance=given.guidance, seed=given.seed)


def _budget(given: Namespace) -> Budget | None:
    from edge_client.rate_control import Budget, Order

    if given.keep_ratio is None and given.target_bytes is None:
        return None
    return Budget(given.keep_ratio, given.target_bytes, Order(given.drop_order))


def _dropped(interaction: Interaction, bundle: Bundle) -> list[str]:
    """What leaving out tokens has saved, which may be less than nothing for a simple picture."""
    from dataclasses import replace

    from shared_protocol.message.codec import encode_request

    request = interaction.request
    if request.dropped is None:
        return []
    whole = len(encode_request(replace(request, dropped=None), bundle).data)
    left_out = f"{request.dropped.count} of {request.dropped.flags.size} tokens are not sent"
    return [f"{left_out}: {interaction.uplink.sizes.total:,} bytes up, {whole:,} with all of them"]


def _token_mask(
    given: Namespace, bundle: Bundle, picture: Picture
) -> tuple[TokenMask, list[str], list[str]]:
    from edge_client.pictures.images import box_mask, load_mask
    from edge_client.pictures.masks import token_mask, vanished_share

    pixels = load_mask(given.mask, picture) if given.mask else box_mask(given.box, picture)
    try:
        tokens = token_mask(pixels, bundle.grid)
    except MaskError as error:
        source = given.mask.name if given.mask else "the box"
        raise MaskError(f"{source}: {error.message}", error.remedy) from error
    notes = [f"mask: {tokens.count} of {tokens.flags.size} tokens are repainted"]
    share = vanished_share(pixels, tokens)
    if share < _NOTICEABLE:
        return tokens, notes, []
    thin = f"{share:.0%} of the mask is too thin for the token grid and stays as it is"
    return tokens, notes, [f"{thin}; paint strokes at least one token wide"]


def _result(interaction: Interaction, output: Path | None) -> dict[str, Any]:
    """Save the picture, if there is one, and name the result."""
    from edge_client.pictures.images import save_picture

    if interaction.pixels is None or output is None:
        return {"answer": interaction.answer}
    save_picture(output, interaction.pixels)
    return {"output": str(output)}
