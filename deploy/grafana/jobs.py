"""The dashboard *Jobs*, which answers whether the scheduled work is done."""

from grafana_foundation_sdk.models import units

from deploy.grafana.boards import Board, Section
from deploy.grafana.panels import Graph, Stat, none_allowed, rising
from deploy.grafana.promql import how_many, or_zero, per_second, quantile, read_by_scheduler

HOUR = 3600
QUARTER = "15m"
"""Jobs are rare: a shorter window would hold none of most."""

BREACHES = read_by_scheduler("giro_verification_breaches")
UNDONE = read_by_scheduler("giro_statement_groups_undone")
REQUESTED = read_by_scheduler("giro_statements_requested")
DEAD_LETTERS = read_by_scheduler("giro_dead_letters")
SINCE_BACKUP = 'time() - max(giro_backup_timestamp_seconds{process="scheduler"})'
SINCE_VERIFICATION = 'time() - max(giro_verification_timestamp_seconds{process="scheduler"})'
JOBS_WORKER = 'max(time() - process_start_time_seconds{process="jobs"})'

AT_A_GLANCE = (
    Stat(
        title="Statements overdue",
        question="Are the statements of closed months there?",
        shows="How long ago the oldest month ended whose statements are not all made; 0 when all are.",
        bad="Minutes after a month's end are normal. Later: see *Groups to be made* for whether it goes on, *Dead"
        " letters* for what keeps failing, and `giro operator statement-runs` for which month it is.",
        unit=units.Seconds,
        steps=rising(HOUR, 6 * HOUR),
        queries={"": read_by_scheduler("giro_statements_overdue_seconds")},
    ),
    Stat(
        title="Groups undone",
        question="How much of the month's work is left?",
        shows="Groups of accounts whose statements are still to be made, of all months.",
        bad="A number that does not fall: the jobs worker is down, or a group is parked as a dead letter.",
        unit=units.Short,
        steps=((None, "green"), (1, "yellow")),
        queries={"": UNDONE},
    ),
    Stat(
        title="Requested",
        question="Do customers wait for statements?",
        shows="Statements that customers asked for and that are not made yet.",
        bad="More than 0 for minutes: the jobs worker is down or busy with a month's end, or the statement is parked.",
        unit=units.Short,
        steps=rising(10, 100),
        queries={"": REQUESTED},
    ),
    Stat(
        title="Last verification",
        question="When was the ledger last checked?",
        shows="Time since the last scheduled verification of the whole ledger ended.",
        bad="Older than `GIRO_VERIFY_HOURS` (24 h): it does not run or does not end. Look for `job_failed` with"
        " `verify` in the log of the jobs worker; `giro verify` checks at once.",
        unit=units.Seconds,
        steps=rising(25 * HOUR, 49 * HOUR),
        absent="none yet",
        queries={"": SINCE_VERIFICATION},
    ),
    Stat(
        title="Breaches",
        question="Does the ledger hold what it promises?",
        shows="Broken rules that the last verification found.",
        bad="Any: stop the service and keep the database as it is. `giro operator verification` names the rules and"
        " the accounts; `docs/reference/verification.md` says what each rule means.",
        unit=units.Short,
        steps=none_allowed(),
        absent="none yet",
        queries={"": BREACHES},
    ),
    Stat(
        title="Dead letters",
        question="Does some work keep failing?",
        shows="Messages that are parked, since their work failed three times in a row.",
        bad="`giro queue list` shows what went wrong. Mend the cause, then `giro queue retry ID`; a group"
        " of statements waits for that.",
        unit=units.Short,
        steps=none_allowed(),
        queries={"": DEAD_LETTERS},
    ),
)

LAST_BACKUP = Stat(
    title="Last backup",
    question="How much would a lost disk cost?",
    shows="Time since the copy of the newest backup began: what was accepted since is in none.",
    bad="Older than `GIRO_BACKUP_HOURS` (24 h): look for `job_failed` with `back_up` in the log of the jobs worker."
    " `giro backup` makes one at once.",
    unit=units.Seconds,
    steps=rising(25 * HOUR, 49 * HOUR),
    absent="none yet",
    queries={"": SINCE_BACKUP},
)

TIMETABLE = Stat(
    title="Scheduled jobs",
    question="Does the timetable run?",
    shows="How often each job of the timetable has run since the jobs worker started, and how long ago that"
    " was: `anchor` every 5 minutes, `checkpoint` and `back_up` (a look whether one is due) every 10, `verify_recent`"
    " every 15, `forget_expired_tokens` every hour, `verify` every 24 hours, unless the settings say otherwise.",
    bad="Too few for the time: the scheduler is down, or it cannot reach the queue (`queue_unreachable` in"
    " its log). A job that is missing has not run at all.",
    unit=units.Short,
    decimals=0,
    queries={
        "{{actor_name}}": 'sum by (actor_name) (dramatiq_messages_total{queue_name="jobs"})',
        "hours since the start": f"{JOBS_WORKER} / {HOUR}",
    },
)

STATEMENTS = Section(
    "Statements",
    (
        (
            Graph(
                title="Statements made",
                question="How fast are statements made?",
                shows="Statements made in a second. 0 for most of a month.",
                bad="0 while groups are undone: the jobs worker does not run, or each of its attempts fails.",
                unit=units.OpsPerSecond,
                queries={"made": per_second("giro_statements_made_total")},
            ),
            Graph(
                title="Groups to be made",
                question="How far is the month, and how long will it take?",
                shows="Groups of accounts of the runs that are not finished, and those of them that are undone. The"
                " slope tells when it will be done.",
                bad="A level line above 0: nothing is made. A group that alone is left over is mostly a dead letter.",
                unit=units.Short,
                queries={"all": read_by_scheduler("giro_statement_groups"), "undone": UNDONE},
            ),
            Graph(
                title="Requested statements",
                question="Are requests of customers served?",
                shows="Statements asked for and not made yet.",
                bad="A line that does not come back to 0: see *Dead letters*, and whether the jobs worker runs.",
                unit=units.Short,
                queries={"requested": REQUESTED},
            ),
            Graph(
                title="Time for a group",
                question="What does a group of statements cost?",
                shows="Time to make the statements of one group, or one that was asked for, p50 and p99 of the last 15"
                " minutes. A gap: none was made.",
                bad="Growing from month to month: the accounts have more transactions. Make groups smaller"
                " (`GIRO_STATEMENT_GROUP`), so that one message ends sooner.",
                unit=units.Seconds,
                queries={
                    "p50": quantile(0.5, "giro_statement_group_duration_seconds", window=QUARTER),
                    "p99": quantile(0.99, "giro_statement_group_duration_seconds", window=QUARTER),
                },
            ),
        ),
    ),
)

BACKUPS = Section(
    "Backups",
    (
        (
            Graph(
                title="Age of the newest backup",
                question="Are backups made regularly?",
                shows="Time since the newest backup was begun, and the age at which the next one is due"
                " (`GIRO_BACKUP_HOURS`; 0: none are made).",
                bad="It rises above the line: none is made. A saw with higher teeth: the jobs worker is busy or away.",
                unit=units.Seconds,
                queries={"age": SINCE_BACKUP, "due at": read_by_scheduler("giro_backup_interval_seconds")},
            ),
            Graph(
                title="Size of the newest backup",
                question="How much room do backups need?",
                shows="Size of the newest backup; `GIRO_BACKUP_KEEP` (7) of them are kept.",
                bad="It falls: the ledger only grows, so look what was backed up.",
                unit=units.BytesSI,
                queries={"size": read_by_scheduler("giro_backup_size_bytes")},
            ),
            Graph(
                title="Time of a backup",
                question="Does a backup take too long?",
                shows="How long the newest backup took, with the verification of the copy.",
                bad="It grows with the ledger. Other jobs wait meanwhile, and the write-ahead log grows while it is"
                " copied.",
                unit=units.Seconds,
                queries={"last": read_by_scheduler("giro_backup_duration_seconds")},
            ),
        ),
    ),
)

CARE = Section(
    "Verification and checkpoints",
    (
        (
            Graph(
                title="Time of a verification",
                question="Does verifying become too slow?",
                shows="How long the last verification took.",
                bad="It grows with the ledger. Once it takes hours, verify the whole less often"
                " (`GIRO_VERIFY_HOURS`); what is new is verified in between.",
                unit=units.Seconds,
                queries={"last": read_by_scheduler("giro_verification_duration_seconds")},
            ),
            Graph(
                title="Breaches found",
                question="Since when is a rule broken?",
                shows="Broken rules that the last verification found, over time.",
                bad="The step lies between the last clean verification and the first that complained: look at what was"
                " deployed then and at machine faults, and see the stat of the same name for what to do.",
                unit=units.Short,
                queries={"breaches": BREACHES},
            ),
            Graph(
                title="Blocks without an anchor",
                question="Is what was settled signed?",
                shows="How long the oldest block above the last anchor has waited; 0 when the newest is signed.",
                bad="More than a few times `GIRO_ANCHOR_MINUTES`: the jobs worker does not run, or the file of anchors"
                " cannot be written (`anchor_not_written` in its log).",
                unit=units.Seconds,
                queries={"oldest": read_by_scheduler("giro_unanchored_seconds")},
            ),
            Graph(
                title="Height of the chain",
                question="How fast does the chain of blocks grow, and how much of it is signed?",
                shows="The newest block, and the newest that an anchor names.",
                bad="Two lines that part for more than `GIRO_ANCHOR_MINUTES`.",
                unit=units.Short,
                queries={
                    "newest": read_by_scheduler("giro_block_height"),
                    "anchored": read_by_scheduler("giro_anchored_height"),
                },
            ),
            Graph(
                title="Checkpoints",
                question="What does cutting the write-ahead log back cost?",
                shows="Time of the checkpoints of the last 15 minutes, p50 and p99. A gap: there was none.",
                bad="Writers wait meanwhile. Long ones follow a burst of transfers; checkpoint more often"
                " (`GIRO_CHECKPOINT_MINUTES`). None at all: see *Scheduled jobs*.",
                unit=units.Seconds,
                queries={
                    "p50": quantile(0.5, "giro_checkpoint_duration_seconds", window=QUARTER),
                    "p99": quantile(0.99, "giro_checkpoint_duration_seconds", window=QUARTER),
                },
            ),
            Graph(
                title="Blocked checkpoints",
                question="Does a reader hold the write-ahead log?",
                shows="Checkpoints of the last hour that could not cut the log back, since somebody still read it.",
                bad="One during a verification is normal. All of them: a reader never ends, perhaps a tool that has the"
                " database open; the log grows (*Database size* on *Service*).",
                unit=units.Short,
                queries={"blocked": how_many("giro_checkpoints_blocked_total", window="1h")},
            ),
        ),
    ),
)

MESSAGES = Section(
    "Messages",
    (
        (
            Graph(
                title="Messages by actor",
                question="What do the workers do?",
                shows="Messages worked off in a second, by actor.",
                bad="An actor that is missing does not get its messages: see *Messages waiting* on *Service*.",
                unit=units.MessagesPerSecond,
                queries={"{{actor_name}}": per_second("dramatiq_messages_total", by="actor_name", window=QUARTER)},
            ),
            Graph(
                title="Time by actor",
                question="Which work takes long?",
                shows="Mean time of a message in the last 15 minutes, by actor. A gap: there was none.",
                bad="A message longer than some minutes keeps those behind it waiting, and is cut off when the service"
                " stops; it comes again.",
                unit=units.Seconds,
                queries={
                    "{{actor_name}}": per_second(
                        "dramatiq_message_duration_seconds_sum", by="actor_name", window=QUARTER
                    )
                    + " / "
                    + per_second("dramatiq_message_duration_seconds_count", by="actor_name", window=QUARTER)
                },
            ),
            Graph(
                title="Messages in hand",
                question="Is a worker stuck?",
                shows="Messages that are worked on at this moment, by actor.",
                bad="1 for hours without an end: the work hangs. Its heartbeat may go on; restart the worker, the work"
                " comes again.",
                unit=units.Short,
                queries={"{{actor_name}}": "sum by (actor_name) (dramatiq_messages_inprogress)"},
            ),
            Graph(
                title="Failing jobs",
                question="Do jobs fail before they are parked?",
                shows="In the last hour: exceptions of the workers that nobody expected, and messages that failed"
                " before their work began.",
                bad="Find `job_failed` in the worker's log. The third failure in a row makes a dead letter. A message"
                " that fails before its work was sent by another version, or by somebody else.",
                unit=units.Short,
                queries={
                    "exceptions": how_many('giro_unhandled_exceptions_total{process=~"settlement|jobs"}', window="1h"),
                    "messages": or_zero(how_many("dramatiq_message_errors_total", window="1h"), "settlement|jobs"),
                },
            ),
        ),
    ),
)

BOARD = Board(
    name="jobs",
    title="Giro: Jobs",
    about="Is the scheduled work done? Statements, backups, verification, checkpoints, and what the workers do.",
    sections=(Section("Is it done?", (AT_A_GLANCE, (LAST_BACKUP, TIMETABLE))), STATEMENTS, BACKUPS, CARE, MESSAGES),
)
