"""Sampling: a share of all traces, and the same decision in every process."""

import os
import subprocess
import sys
from uuid import uuid4

import pytest

from core.ids import new_id
from core.settings import SettingsError
from core.telemetry.tracing.sampling import ARGUMENT, SAMPLER, sampler_of

DECIDE = """
import os, sys
from core.telemetry.tracing.sampling import sampler_of
is_sampled = sampler_of(os.environ)
print([is_sampled(int(line)) for line in sys.stdin])
"""


def ratio(text: str) -> dict[str, str]:
    return {SAMPLER: "traceidratio", ARGUMENT: text}


@pytest.mark.parametrize("environment", [{}, {SAMPLER: ""}, {SAMPLER: "parentbased_always_on"}, ratio("1"), ratio("")])
def test_all_traces_are_sampled_by_default(environment: dict[str, str]) -> None:
    is_sampled = sampler_of(environment)
    assert all(is_sampled(new_id().int) for _ in range(1000))
    assert is_sampled(2**128 - 1)


@pytest.mark.parametrize("environment", [{SAMPLER: "always_off"}, ratio("0")])
def test_no_trace_is_sampled(environment: dict[str, str]) -> None:
    assert not any(sampler_of(environment)(new_id().int) for _ in range(1000))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_ratio_is_the_share_of_sampled_traces(share: float) -> None:
    # Ids that are made one after another, at once: they differ in few bits.
    ids = [new_id().int for _ in range(5000)] + [uuid4().int for _ in range(5000)]
    is_sampled = sampler_of(ratio(str(share)))
    for half in (ids[:5000], ids[5000:]):
        assert abs(sum(map(is_sampled, half)) / 5000 - share) < 0.05


def test_a_larger_ratio_samples_the_same_traces_and_more() -> None:
    few, many = sampler_of(ratio("0.2")), sampler_of({**ratio("0.4"), SAMPLER: "parentbased_traceidratio"})
    ids = [new_id().int for _ in range(1000)]
    assert {i for i in ids if few(i)} < {i for i in ids if many(i)}


@pytest.mark.processes
def test_processes_decide_the_same() -> None:
    ids = [new_id().int for _ in range(200)]
    is_sampled = sampler_of(ratio("0.5"))
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", DECIDE],
            env=os.environ | ratio("0.5") | {"PYTHONHASHSEED": seed},
            input="\n".join(map(str, ids)),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert done.stdout.strip() == str([is_sampled(i) for i in ids])


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({SAMPLER: "jaeger_remote"}, "OTEL_TRACES_SAMPLER: 'jaeger_remote' is not supported; use one of always_on"),
        (ratio("ten"), "OTEL_TRACES_SAMPLER_ARG: 'ten' is not a number from 0 to 1"),
        (ratio("1.1"), "OTEL_TRACES_SAMPLER_ARG: '1.1' is not a number from 0 to 1"),
        (ratio("nan"), "OTEL_TRACES_SAMPLER_ARG: 'nan' is not a number from 0 to 1"),
    ],
)
def test_an_unsupported_sampler_is_an_error_of_one_line(environment: dict[str, str], complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint) as caught:
        sampler_of(environment)
    assert "\n" not in str(caught.value)
