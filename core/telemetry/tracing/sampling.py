"""The sampling decision. It depends on the trace id only, so all processes decide the same about a request."""

from collections.abc import Callable, Mapping
from hashlib import blake2b

from core.settings import SettingsError

SAMPLER, ARGUMENT = "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"
PARENT_BASED = "parentbased_"
"""Prefix of samplers that follow a parent's decision. All traces of Giro start here, so it changes nothing."""
ALWAYS_ON, ALWAYS_OFF, RATIO = SAMPLERS = ("always_on", "always_off", "traceidratio")

IsSampled = Callable[[int], bool]
"""Returns whether the trace with an id is sampled."""


def sampler_of(environment: Mapping[str, str]) -> IsSampled:
    """Return the sampler that the environment chooses: all traces by default. Raises SettingsError."""
    chosen = environment.get(SAMPLER) or ALWAYS_ON
    name = chosen.removeprefix(PARENT_BASED)
    if name not in SAMPLERS:
        known = ", ".join(SAMPLERS)
        raise SettingsError(f"{SAMPLER}: '{chosen}' is not supported; use one of {known}, or one with {PARENT_BASED}")
    if name == RATIO:
        return by_ratio(_ratio(environment.get(ARGUMENT) or "1"))
    return by_ratio(float(name == ALWAYS_ON))


def by_ratio(ratio: float) -> IsSampled:
    """Return a sampler that samples this share of all traces.

    It compares a hash. The bits of the ids themselves are not evenly distributed: UUIDs of one millisecond differ in
    few bits, and clients choose ids too.
    """
    bound = round(ratio * 2**64)

    def is_sampled(trace_id: int) -> bool:
        return int.from_bytes(blake2b(trace_id.to_bytes(16), digest_size=8).digest()) < bound

    return is_sampled


def _ratio(text: str) -> float:
    try:
        ratio = float(text)
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        raise SettingsError(f"{ARGUMENT}: '{text}' is not a number from 0 to 1")
    return ratio
