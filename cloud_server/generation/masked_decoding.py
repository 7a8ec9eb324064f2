"""Masked parallel decoding of image tokens: noise, order, and the decoding loop.

Does not know requests, grids, prompts, or the network. The order in which tokens are fixed is a
`DecodingPolicy`, randomness is a `NoiseSource`; both are passed in.

One step of masked decoding, per row (MaskGIT; Show-o's `t2i_generate`)::

    logits ─ softmax ─► a code wherever none is ─► log p + temperature * Gumbel = confidence
                                                     │ lowest `masked_count` are masked again
    codes (-1 = unknown) ◄── fix the others ◄────────┘

A known code is never drawn again, so logits are asked for at unknown positions only.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from shared_protocol.messages import OnStep

LogitsOfCodes = Callable[[Tensor, Tensor], Tensor]
"""Codes (B, N), -1 where unknown, and places (B, R) among them, to guided logits (B, R, V) float32
at those places, the caller's to overwrite."""

_EARLY_POWER = 0.7
_LOG_FLOOR = 1e-20
CERTAIN = torch.tensor(math.log(torch.finfo(torch.float32).max))
"""Log probability of a known token: certain, but finitely so, for noise is added to it as well."""


# ------------------------------------------------------------------------------------------------
# Randomness
# ------------------------------------------------------------------------------------------------


class NoiseSource(Protocol):
    """Where the random draws of a batch come from; one row a request."""

    def choose(self, probabilities: Tensor, places: Tensor, total: int) -> Tensor:
        """Draw one index per distribution as Show-o does, with numbers for all positions.

        Args:
            probabilities: (B, R, K), those of some of the `total` positions of each row.
            places: (B, R) int64, which positions these are.
            total: N.

        Returns:
            (B, R) int64.
        """
        ...

    def choose_at(self, probabilities: Tensor, counts: Tensor) -> Tensor:
        """Draw one index per distribution, with numbers for these alone: less work than `choose`.

        Args:
            probabilities: (B, R, K).
            counts: (B,) how many of a row's R distributions are wanted, the first ones.

        Returns:
            (B, R) int64; of no meaning beyond `counts`.
        """
        ...

    def uniform(self, count: int) -> Tensor:
        """(B, count) float32 in [0, 1), on the CPU."""
        ...

    def rows(self, indices: Sequence[int]) -> "NoiseSource":
        """The same source for some of the rows."""
        ...


@dataclass(frozen=True)
class RowGenerators:
    """One generator per row, so that a row's draws do not depend on its neighbours.

    Numbers are drawn where the generators live.

    For a single row the draws are those of Show-o with the same generator: per step a multinomial
    and then a uniform draw.
    """

    generators: Sequence[torch.Generator]

    def choose(self, probabilities: Tensor, places: Tensor, total: int) -> Tensor:
        times = [
            race_times(total, probabilities.shape[-1], generator, where)
            for generator, where in zip(
                self.generators, places.to(self.generators[0].device), strict=True
            )
        ]
        return race(probabilities, torch.stack(times))

    def choose_at(self, probabilities: Tensor, counts: Tensor) -> Tensor:
        times = torch.ones(probabilities.shape, device=self.generators[0].device)
        for row, count, generator in zip(times, counts.tolist(), self.generators, strict=True):
            # As `race_times`, in a fifth of its time; one number in 2**24 is infinite, and loses.
            row[:count].uniform_(generator=generator).log_().neg_()
        return race(probabilities, times)

    def uniform(self, count: int) -> Tensor:
        drawn = [torch.rand(count, generator=g, device=g.device) for g in self.generators]
        return torch.stack(drawn).cpu()

    def rows(self, indices: Sequence[int]) -> "RowGenerators":
        return RowGenerators([self.generators[index] for index in indices])


def race_times(
    total: int, choices: int, generator: torch.Generator, places: Tensor | None = None
) -> Tensor:
    """(total, choices) exponential numbers, those that `torch.multinomial` draws; float32.

    With `places` (R,) only these rows are made of them, though numbers for all are drawn. On a CPU
    they come from the same draws as `Tensor.exponential_`, bit for bit, in a third of its time.
    """
    if generator.device.type != "cpu":
        times = torch.empty(total, choices, device=generator.device)
        times = times.exponential_(generator=generator)
        return times if places is None else times[places]
    drawn = torch.empty(total, choices, dtype=torch.float64).uniform_(generator=generator)
    # All are drawn, since the generator's next number must not depend on how many are wanted; the
    # logarithms, which take most of the time, are those of the wanted rows alone.
    wanted = drawn if places is None else drawn[places]
    return wanted.neg_().log1p_().neg_().float()


def race(probabilities: Tensor, times: Tensor) -> Tensor:
    """The index of the largest quotient p / time: (B, R, K) each to (B, R); overwrites `times`.

    With exponential times that index is distributed as the probabilities say: the first of K clocks
    to ring, each with its probability as rate. It is what `torch.multinomial` does, so that seeds
    give Show-o's pictures. Drawing by a cumulative sum would be as right, but there a probability
    that differs in its last digit, as another batch size or device makes it, moves the borders of
    all later codes; here only two codes that all but tie can change places.
    """
    times = times.to(probabilities.device)
    return largest(torch.div(probabilities, times, out=times))


def largest(values: Tensor) -> Tensor:
    """Index of the largest of the last axis; on a CPU NumPy finds it ten times faster.

    Of equal values both take the first. The array shares the tensor's memory: nothing is copied.
    """
    if values.device.type != "cpu":
        return values.argmax(-1)
    return torch.from_numpy(values.numpy().argmax(-1))


# ------------------------------------------------------------------------------------------------
# Order
# ------------------------------------------------------------------------------------------------


def cosine_masked_count(step: int, steps: int, total: int) -> int:
    """How many of `total` tokens stay masked after step `step` (0-based) of `steps`, unclamped.

    float32 on purpose: when 3 divides `steps` the cosine of 60 degrees is 0.49999997 there, which
    gives one token fewer than float64 would.

    >>> [cosine_masked_count(step, 3, 256) for step in range(3)]
    [221, 127, -1]
    """
    ratio = torch.tensor((step + 1) / steps, dtype=torch.float32)
    return int((total * torch.cos(ratio * math.pi * 0.5)).floor())


def early_masked_count(step: int, steps: int, total: int) -> int:
    """As `cosine_masked_count`, but most tokens are fixed early and few at the end.

    The early ones are the surest, the background; objects are drawn late, a few tokens at a time,
    so that one step does not begin the same object in two places.

    >>> [early_masked_count(step, 4, 256) for step in range(4)]
    [158, 98, 46, 0]
    """
    return int(total * (1.0 - ((step + 1) / steps) ** _EARLY_POWER))


def compounding_temperature(base: float, step: int, steps: int) -> float:
    """Show-o's annealing: each step's factor multiplies the temperature of the step before."""
    # Show-o overwrites the temperature in its loop, so that the factors multiply; a plain linear
    # fall would keep noise for longer and give other pictures for every seed.
    for done in range(step + 1):
        base = base * (1.0 - (done + 1) / steps)
    return base


def gentle_temperature(base: float, step: int, steps: int) -> float:
    """Linear from a tenth of `base` to 0: the surest tokens first, with little chance in it."""
    return base / 10 * (1.0 - (step + 1) / steps)


@dataclass(frozen=True)
class DecodingPolicy:
    """The order in which masked decoding fixes tokens.

    Attributes:
        name: how settings and records call it.
        masked_count: (step, steps, tokens) to the number left masked, before clamping.
        temperature: (base, step, steps) to the temperature of the confidence noise.
        code_temperature: divides the logits that codes are drawn from.
        counts_known: whether the tokens of `masked_count` are all of the image or those that were
            unknown at the start.
        draws_known: whether random numbers are drawn for the codes of known positions as well, as
            Show-o does. Same distribution without, other draws, less time.
        settle_passes: passes in which a finished window is settled, see `settling`; 0 = none.
        settle_weight: of what a code costs to send, against its log probability, while settling.
    """

    name: str
    masked_count: Callable[[int, int, int], int]
    temperature: Callable[[float, int, int], float]
    code_temperature: float = 1.0
    counts_known: bool = True
    draws_known: bool = True
    settle_passes: int = 0
    settle_weight: float = 0.5


REFERENCE = DecodingPolicy("reference", cosine_masked_count, compounding_temperature)
"""Exactly Show-o."""
STANDARD = DecodingPolicy("standard", early_masked_count, gentle_temperature, 0.6, False, False, 4)
"""What small models draw best with: background first, sure codes, even progress in small holes, and
a second look at every code in the end."""
POLICIES = {policy.name: policy for policy in (REFERENCE, STANDARD)}


def remask(confidence: Tensor, masked_counts: Tensor) -> Tensor:
    """(B, N) bool: positions strictly below the `masked_counts`-th (B,) lowest confidence."""
    ordered = confidence.sort(dim=-1).values
    return confidence < ordered.gather(1, masked_counts[:, None])


def log_of(numbers: Tensor) -> Tensor:
    """Logarithms of numbers, of at least 1e-20."""
    return numbers.clamp(min=_LOG_FLOOR).log()


def gumbel(uniform: Tensor) -> Tensor:
    """Standard Gumbel noise of uniforms in [0, 1)."""
    return -log_of(-log_of(uniform))


# ------------------------------------------------------------------------------------------------
# Masked decoding
# ------------------------------------------------------------------------------------------------


@torch.inference_mode()
def decode_masked(  # noqa: PLR0913 - one numeric step, all of it named
    logits_of: LogitsOfCodes,
    codes: Tensor,
    *,
    steps: int,
    temperatures: Sequence[float],
    policy: DecodingPolicy,
    noise: NoiseSource,
    on_step: OnStep | None = None,
    on_codes: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """Generate the unknown codes of every row; known codes never change.

    Args:
        logits_of: codes (B, N) and places (B, R) to logits (B, R, V).
        codes: (B, N) int64, -1 where unknown.
        steps: number of decoding steps, at least 1.
        temperatures: (B,) base temperature of each row's confidence noise.
        policy: order and annealing.
        noise: random draws; per step one for codes, then one `uniform` for their order.
        on_step: called with (finished, steps).
        on_codes: called before it with the (B, N) codes that this step would end with.

    Returns:
        (B, N) int64 codes, all known.
    """
    device, given = codes.device, codes.cpu()
    wanted = given < 0
    current = given.clone()
    sampled = current
    counted = [given.shape[1]] * len(given) if policy.counts_known else wanted.sum(-1).tolist()
    for step in range(steps):
        places = unknown_places(current)
        logits = logits_of(current.to(device), places.to(device))
        chosen, certainty = _draw(logits, current, places, policy, noise)
        sampled = torch.where(wanted, _at_unknown(current, places, chosen, current), given)
        scale = torch.tensor([policy.temperature(base, step, steps) for base in temperatures])
        confidence = _at_unknown(current, places, certainty, CERTAIN)
        # Noise for known positions, too: `noise` then gives the same numbers whatever is unknown.
        confidence += scale.float()[:, None] * gumbel(noise.uniform(current.shape[1]))
        counts = torch.tensor([policy.masked_count(step, steps, total) for total in counted])
        masked = remask(confidence, still_masked(counts, current))
        current = torch.where(masked & wanted, -1, sampled)
        if on_codes is not None:
            on_codes(sampled)
        if on_step is not None:
            on_step(step + 1, steps)
    return sampled.to(device)


def unknown_places(codes: Tensor) -> Tensor:
    """(B, R) positions of the unknown among codes (B, N), R those of the row with most, or 1.

    Rows with fewer are filled up with positions that are known.
    """
    unknown = codes < 0
    most = max(1, int(unknown.sum(-1).max()))
    # Stable, so that places stay in raster order and a row's draws do not depend on its neighbours.
    return (~unknown).to(torch.uint8).argsort(dim=-1, stable=True)[:, :most]


def still_masked(counts: Tensor, codes: Tensor) -> Tensor:
    """(B,) how many positions to mask again, at least one fewer than were, and at least one."""
    fewer = torch.minimum((codes < 0).sum(-1) - 1, counts).clamp(min=1)
    # At least one, as in Show-o, even after the last step, whose mask nobody reads. At most all but
    # one, since `remask` compares with the confidence that has so many below it.
    return fewer.clamp(max=codes.shape[1] - 1)


def _draw(
    logits: Tensor, codes: Tensor, places: Tensor, policy: DecodingPolicy, noise: NoiseSource
) -> tuple[Tensor, Tensor]:
    """A code for each place, and its log probability: (B, R) each, on the CPU."""
    if policy.code_temperature != 1.0:
        logits = logits.div_(policy.code_temperature)
    probabilities = logits.softmax(-1)
    if policy.draws_known:
        chosen = noise.choose(probabilities, places, codes.shape[1])
    else:
        chosen = noise.choose_at(probabilities, (codes < 0).sum(-1))
    selected = probabilities.gather(-1, chosen[..., None])[..., 0]
    return chosen.cpu(), log_of(selected).cpu()


def _at_unknown(codes: Tensor, places: Tensor, values: Tensor, otherwise: Tensor) -> Tensor:
    """(B, N): `values` (B, R) at their places where codes are unknown, `otherwise` elsewhere."""
    spread = values.new_zeros(codes.shape).scatter_(1, places, values)
    return torch.where(codes < 0, spread, otherwise)
