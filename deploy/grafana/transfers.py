"""The dashboard *Transfers*, which answers whether money is moving."""

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
# No currency has a balance before the first account; 0 comes from a gauge that is read along with it then.
IMBALANCE = 'sum(abs(giro_imbalance_minor_units{process="scheduler"}))'
FAILED = 'giro_transfers_settled_total{status="failed"}'

AT_A_GLANCE = (
    Stat(
        title="Oldest pending",
        question="Does a transfer wait for too long?",
        shows="How long the oldest transfer has been waiting to be settled; 0 when none waits.",
        bad="Settlement stands still or cannot keep up. Look whether a settlement worker is active (*Service*), then"
        " for `database_unavailable` and `job_failed` in its log. Nothing is lost: what waits is in the database.",
        unit=units.Seconds,
        steps=rising(5, 30),
        queries={"": OLDEST},
    ),
    Stat(
        title="Pending",
        question="How much waits?",
        shows="Transfers that are accepted and not settled yet.",
        bad="A number that only grows means that more is accepted than settled, or that nothing is settled: compare"
        " the two rates beside it.",
        unit=units.Short,
        steps=rising(5_000, 50_000),
        queries={"": PENDING},
    ),
    Stat(
        title="Accepted",
        question="Are transfers coming in?",
        shows="Transfers accepted in a second, replays not counted.",
        bad="0 in the daytime means that clients do not reach the API or are all refused: see *Refusals by code*, and"
        " requests and errors on *Service*.",
        unit=units.OpsPerSecond,
        queries={"": ACCEPTED},
    ),
    Stat(
        title="Settled",
        question="Is money moving?",
        shows="Transfers ended by settlement in a second, the failed ones included.",
        bad="0 while transfers are pending: nobody settles. See *Settlement workers* on *Service*, and start one with"
        " `giro worker` if there is none.",
        unit=units.OpsPerSecond,
        queries={"": SETTLED},
    ),
    Stat(
        title="Failed share",
        question="Do transfers fail that had been accepted?",
        shows="Which share of the transfers that ended in the last 15 minutes has failed.",
        bad="What was checked at acceptance no longer held at settlement: *Failures by reason* says why. A freeze or a"
        " deactivated owner explains some; `insufficient_funds` in number means that reserving is broken: verify the"
        " ledger (`giro verify`).",
        unit=units.PercentUnit,
        steps=rising(0.01, 0.1),
        decimals=1,
        queries={"": share(FAILED, "giro_transfers_settled_total", window="15m")},
    ),
    Stat(
        title="Imbalance",
        question="Do all balances still add up to 0?",
        shows="The sum of all balances of a currency, the external account's included, without its sign and added up"
        " over the currencies, in minor units. Read at most once a minute.",
        bad="Anything but 0: money came from nowhere, or is gone. Stop the service, keep the database file as it is,"
        " and run `giro verify`: it names the accounts.",
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
                question="Does settlement keep pace with what comes in?",
                shows="Transfers accepted and transfers ended by settlement, in a second. The two lines should lie on"
                " each other.",
                bad="*settled* below *accepted* for minutes: the backlog grows. See *Time under the lock* for what"
                " settling costs, and *Lock waits* on *Service* for who holds the database.",
                unit=units.OpsPerSecond,
                queries={"accepted": ACCEPTED, "settled": SETTLED},
            ),
            Graph(
                title="Waiting",
                question="Where do transfers queue up?",
                shows="*pending*: accepted, not settled yet. *at the intake*: requests that are not written yet, at the"
                " moment of the scrape.",
                bad="*at the intake* near `GIRO_INTAKE_WAITING` (2048): clients are answered 503 `unavailable`; the"
                " disk or the lock is too slow. *pending* growing: see *Accepted and settled*.",
                unit=units.Short,
                queries={"pending": PENDING, "at the intake": 'sum(giro_intake_waiting{process="api"})'},
            ),
            Graph(
                title="Oldest pending transfer",
                question="Since when does it stand still?",
                shows="Age of the oldest transfer that waits. It should stay near 0.",
                bad="A line that climbs by a second a second began when settlement stopped: look at the logs of that"
                " moment. Teeth of some seconds are wake-ups that were lost and swept up.",
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
                shows="How many transfers took how long from their acceptance to their end: the darker, the more."
                " Nothing is drawn where none ended.",
                bad="A second band higher up means that some wait for the sweep, so wake-ups are lost: see *Wake-ups by"
                " outcome* on *Service*. The whole cloud rising: settlement is too slow.",
                unit=units.Seconds,
                queries={"{{le}}": f"sum by (le) (increase(giro_transfer_lifetime_seconds_bucket[{WINDOW}]))"},
            ),
            Graph(
                title="Time to the end",
                question="What do most transfers take, and the slowest?",
                shows="Half of the transfers (p50), and 99 of 100 (p99), took no longer from acceptance to end. A gap:"
                " none ended.",
                bad="p99 above 2 s is the sweep's doing (`GIRO_SWEEP_AGE_SECONDS`): the queue server is away or loses"
                " messages. Both high: see *Time under the lock*.",
                unit=units.Seconds,
                queries={
                    "p50": quantile(0.5, "giro_transfer_lifetime_seconds"),
                    "p99": quantile(0.99, "giro_transfer_lifetime_seconds"),
                },
            ),
            Graph(
                title="Time to accept",
                question="How long does a client wait for its answer?",
                shows="From a transfer's arrival at the intake until its answer is known, p50 and p99. Waiting for the"
                " end (`Prefer: wait`) is not in it. A gap: none arrived.",
                bad="It is the commit or the lock that takes the time: compare *Commits* and *Lock waits* on *Service*."
                " Above `GIRO_INTAKE_SECONDS` (5 s) requests are answered 503.",
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
                " normal when little happens. A gap: nothing was written.",
                bad="Groups of hundreds: commits are slow, and what waits gathers. Batches that stay at"
                " `GIRO_SETTLEMENT_BATCH` (5000): settlement works off a backlog.",
                unit=units.Short,
                queries={
                    "accept": mean("giro_accept_group_size"),
                    "settle": mean("giro_settlement_batch_size"),
                },
            ),
            Graph(
                title="Time under the lock",
                question="How long does one group hold the database?",
                shows="99 of 100 groups (*accept*) and batches (*settle*) took no longer, from having the lock to the"
                " end of the commit. A gap: none was written.",
                bad="While one side holds the database the other waits. A slow *accept* is the disk (see *Commits* on"
                " *Service*); a slow *settle* with large batches is a backlog, and passes.",
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
                shows="Transfers in a second that settlement ended as failed, by the code of the reason.",
                bad="`docs/reference/errors.md` explains the codes. `account_frozen` and `owner_inactive` follow an"
                " operator's act (`giro operator audit`); `insufficient_funds` should not happen: run `giro verify`.",
                unit=units.OpsPerSecond,
                stacked=True,
                queries={"{{reason}}": or_zero(per_second(FAILED, by="reason"), "settlement", label="reason")},
            ),
            Graph(
                title="Refusals by code",
                question="What are clients refused, and is it our fault?",
                shows="Transfers in a second that the intake refused, by error code.",
                bad="`unavailable` and `outcome_unknown` are ours: the database cannot be written or too much waits;"
                " see *Database errors* and free disk on *Service*. One of the others rising alone is mostly one"
                " client's mistake.",
                unit=units.OpsPerSecond,
                stacked=True,
                queries={"{{code}}": per_second("giro_transfers_refused_total", by="code")},
            ),
            Graph(
                title="Swept up",
                question="Do wake-ups get lost?",
                shows="Wake-ups in the last 5 minutes that the scheduler sent because a transfer had been pending for"
                " too long.",
                bad="One now and then is what the sweep is for. Many: the queue server is away (see *Queue server* on"
                " *Service*), or settlement stands still and is woken in vain.",
                unit=units.Short,
                queries={"sent again": how_many("giro_sweep_wakeups_total", window="5m")},
            ),
        ),
    ),
)

BOARD = Board(
    name="transfers",
    title="Giro: Transfers",
    about="Is money moving? From what comes in to what has ended, how long that takes, and what does not work.",
    sections=(Section("Is money moving?", (AT_A_GLANCE,)), FLOW, SPEED, TROUBLE),
)
