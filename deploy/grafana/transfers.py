"""The dashboard *Transfers*, which shows whether money is moving."""

from grafana_foundation_sdk.models import units

from deploy.grafana.boards import Board, Section
from deploy.grafana.panels import Graph, HeatMap, Stat, none_allowed, rising
from deploy.grafana.promql import (
    WINDOW,
    how_many,
    mean,
    or_zero,
    per_second,
    quantile,
    read_by_scheduler,
    share,
)

ACCEPTED = per_second("giro_transfers_accepted_total")
SETTLED = or_zero(per_second("giro_transfers_settled_total"), "settlement")
PENDING = read_by_scheduler("giro_pending_transfers")
OLDEST = read_by_scheduler("giro_oldest_pending_age_seconds")
# Before the first account no currency has a balance. Then the 0 comes from a gauge that is read together with it.
IMBALANCE = 'sum(abs(giro_imbalance_minor_units{process="scheduler"}))'
FAILED = 'giro_transfers_settled_total{status="failed"}'

AT_A_GLANCE = (
    Stat(
        title="Oldest pending",
        question="Does a transfer wait for too long?",
        shows="How long the oldest transfer has been waiting to be settled; 0 if none waits.",
        bad="Settlement has stopped or is too slow. Check whether a settlement worker is active (*Service*), then look"
        " for `database_unavailable` and `job_failed` in its log. Nothing is lost: waiting transfers are in the"
        " database.",
        unit=units.Seconds,
        steps=rising(5, 30),
        queries={"": OLDEST},
    ),
    Stat(
        title="Pending",
        question="How many transfers wait?",
        shows="Transfers that are accepted and not settled yet.",
        bad="If the number only grows, more transfers are accepted than settled, or none are settled: compare the two"
        " rates next to it.",
        unit=units.Short,
        steps=rising(5_000, 50_000),
        queries={"": PENDING},
    ),
    Stat(
        title="Accepted",
        question="Are transfers coming in?",
        shows="Transfers accepted per second, without replays.",
        bad="0 in the daytime means that clients do not reach the API, or that all are refused: see *Refusals by code*,"
        " and requests and errors on *Service*.",
        unit=units.OpsPerSecond,
        queries={"": ACCEPTED},
    ),
    Stat(
        title="Settled",
        question="Is money moving?",
        shows="Transfers that settlement ended per second, including failed ones.",
        bad="0 while transfers are pending: no worker settles. See *Settlement workers* on *Service*. If it is 0,"
        " start a worker with `giro worker`.",
        unit=units.OpsPerSecond,
        queries={"": SETTLED},
    ),
    Stat(
        title="Failed share",
        question="Do accepted transfers fail?",
        shows="Share of failed transfers among those that ended in the last 15 minutes.",
        bad="A check that passed at acceptance failed at settlement: *Failures by reason* says why. A freeze or a"
        " deactivated owner explains some failures. Many `insufficient_funds` mean that the reservation of funds is"
        " broken: verify the ledger (`giro verify`).",
        unit=units.PercentUnit,
        steps=rising(0.01, 0.1),
        decimals=1,
        queries={"": share(FAILED, "giro_transfers_settled_total", window="15m")},
    ),
    Stat(
        title="Imbalance",
        question="Do all balances still add up to 0?",
        shows="The absolute sum of all balances of a currency, including the external account's, added up over all"
        " currencies, in minor units. It is read at most once a minute.",
        bad="Not 0: money was created or lost. Stop the service, keep the database file as it is, and run `giro"
        " verify`, which names the accounts.",
        unit=units.Short,
        steps=none_allowed(),
        queries={"": f"{IMBALANCE} or 0 * {PENDING}"},
    ),
)

FLOW = Section(
    "Flow",
    (
        (
            Graph(
                title="Accepted and settled",
                question="Is settlement as fast as acceptance?",
                shows="Transfers accepted, and transfers ended by settlement, per second. The two lines should be the"
                " same.",
                bad="If *settled* is below *accepted* for minutes, the backlog grows. *Time under the lock* shows how"
                " long settlement takes, and *Lock waits* on *Service* which processes wait for the database.",
                unit=units.OpsPerSecond,
                queries={"accepted": ACCEPTED, "settled": SETTLED},
            ),
            Graph(
                title="Waiting",
                question="Where do transfers wait?",
                shows="*pending*: accepted, not settled yet. *at the intake*: requests that are not written yet, at the"
                " time of the scrape.",
                bad="If *at the intake* is near `GIRO_INTAKE_WAITING` (2048), clients are answered 503 `unavailable`:"
                " the disk or the lock is too slow. If *pending* grows, see *Accepted and settled*.",
                unit=units.Short,
                queries={"pending": PENDING, "at the intake": 'sum(giro_intake_waiting{process="api"})'},
            ),
            Graph(
                title="Oldest pending transfer",
                question="When did settlement stop?",
                shows="Age of the oldest transfer that waits. It should stay near 0.",
                bad="If the line rises by one second per second, it began to rise when settlement stopped: look at the"
                " logs of that time. Peaks of a few seconds are lost wake-ups that the sweep has replaced.",
                unit=units.Seconds,
                steps=rising(5, 30),
                queries={"oldest": OLDEST},
            ),
        ),
    ),
)

SPEED = Section(
    "Speed",
    (
        (
            HeatMap(
                title="From accepted to ended",
                question="How long does a transfer take?",
                shows="Distribution of the time from a transfer's acceptance to its end: the darker, the more."
                " Nothing is drawn if none ended.",
                bad="A second, higher band means that some transfers wait for the sweep, so wake-ups are lost: see"
                " *Wake-ups by outcome* on *Service*. If the whole band rises, settlement is too slow.",
                unit=units.Seconds,
                queries={"{{le}}": f"sum by (le) (increase(giro_transfer_lifetime_seconds_bucket[{WINDOW}]))"},
            ),
            Graph(
                title="Time to the end",
                question="How long do most transfers take, and how long the slowest?",
                shows="Half of the transfers (p50), and 99 of 100 (p99), took no longer from acceptance to end. A gap"
                " means that none ended.",
                bad="If p99 is above 2 s, transfers wait for the sweep (`GIRO_SWEEP_AGE_SECONDS`): the queue server is"
                " down or loses messages. If both are high, see *Time under the lock*.",
                unit=units.Seconds,
                queries={
                    "p50": quantile(0.5, "giro_transfer_lifetime_seconds"),
                    "p99": quantile(0.99, "giro_transfer_lifetime_seconds"),
                },
            ),
            Graph(
                title="Time to accept",
                question="How long does a client wait for its answer?",
                shows="Time from a transfer's arrival at the intake until its answer is known, p50 and p99, without the"
                " wait of `Prefer: wait`. A gap means that none arrived.",
                bad="The commit or the lock takes the time: compare *Commits* and *Lock waits* on *Service*. Above"
                " `GIRO_INTAKE_SECONDS` (5 s) requests are answered 503.",
                unit=units.Seconds,
                queries={
                    "p50": quantile(0.5, "giro_accept_latency_seconds"),
                    "p99": quantile(0.99, "giro_accept_latency_seconds"),
                },
            ),
        ),
        (
            Graph(
                title="Group and batch size",
                question="How many transfers share a commit?",
                shows="Mean number of requests written in one unit of work, and of transfers settled in one. 1 is"
                " normal under a low load. A gap means that nothing was written.",
                bad="Groups of hundreds mean that commits are slow, so that more requests wait. If batches stay at"
                " `GIRO_SETTLEMENT_BATCH` (5000), settlement has a backlog.",
                unit=units.Short,
                queries={
                    "accept": mean("giro_accept_group_size"),
                    "settle": mean("giro_settlement_batch_size"),
                },
            ),
            Graph(
                title="Time under the lock",
                question="How long does one group lock the database?",
                shows="99 of 100 groups (*accept*) and batches (*settle*) took no longer, from taking the lock to the"
                " end of the commit. A gap means that none was written.",
                bad="While one side has the lock, the other waits. If *accept* is slow, the cause is the disk (see"
                " *Commits* on *Service*). If *settle* is slow with large batches, there is a backlog; it ends by"
                " itself.",
                unit=units.Seconds,
                queries={
                    "accept": quantile(0.99, "giro_accept_duration_seconds"),
                    "settle": quantile(0.99, "giro_settlement_duration_seconds"),
                },
            ),
        ),
    ),
)

TROUBLE = Section(
    "Failures and refusals",
    (
        (
            Graph(
                title="Failures by reason",
                question="Why do accepted transfers fail?",
                shows="Transfers that failed at settlement per second, by the code of the reason.",
                bad="`docs/reference/errors.md` explains the codes. `account_frozen` and `owner_inactive` are caused by"
                " an operator (`giro operator audit`). `insufficient_funds` should not happen: run `giro verify`.",
                unit=units.OpsPerSecond,
                stacked=True,
                queries={"{{reason}}": or_zero(per_second(FAILED, by="reason"), "settlement", label="reason")},
            ),
            Graph(
                title="Refusals by code",
                question="Why are transfers refused, and is it a fault of the service?",
                shows="Transfers refused by the intake per second, by error code.",
                bad="`unavailable` and `outcome_unknown` are faults of the service: the database cannot be written, or"
                " too many requests wait. See *Database errors* and *Free disk* on *Service*. If a single other code"
                " rises, it is usually a mistake of one client.",
                unit=units.OpsPerSecond,
                stacked=True,
                queries={"{{code}}": per_second("giro_transfers_refused_total", by="code")},
            ),
            Graph(
                title="Swept up",
                question="Are wake-ups lost?",
                shows="Wake-ups in the last 5 minutes that the scheduler sent because a transfer was pending for too"
                " long.",
                bad="A few are normal. Many mean that the queue server is down (see *Queue server* on *Service*), or"
                " that settlement has stopped and does not react to wake-ups.",
                unit=units.Short,
                queries={"sent again": how_many("giro_sweep_wakeups_total", window="5m")},
            ),
        ),
    ),
)

BOARD = Board(
    name="transfers",
    title="Giro: Transfers",
    about="Is money moving? Accepted and settled transfers, how long they take, failures and refusals.",
    sections=(Section("Is money moving?", (AT_A_GLANCE,)), FLOW, SPEED, TROUBLE),
)
