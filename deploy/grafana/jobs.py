"""The dashboard *Jobs*, which shows whether the scheduled work is done."""

from grafana_foundation_sdk.models import units

from deploy.grafana.boards import Board, Section
from deploy.grafana.panels import Graph, Stat, none_allowed, rising
from deploy.grafana.promql import how_many, or_zero, per_second, quantile, read_by_scheduler
from deploy.grafana.verification import BREACHES, CARE, QUARTER, SINCE_VERIFICATION

HOUR = 3600

UNDONE = read_by_scheduler("giro_statement_groups_undone")
REQUESTED = read_by_scheduler("giro_statements_requested")
DEAD_LETTERS = read_by_scheduler("giro_dead_letters")
SINCE_BACKUP = 'time() - max(giro_backup_timestamp_seconds{process="scheduler"})'
SINCE_SHIPPED = '(time() - max(giro_backup_shipped_timestamp_seconds{process="scheduler"})) or vector(0)'
JOBS_WORKER = 'max(time() - process_start_time_seconds{process="jobs"})'

AT_A_GLANCE = (
    Stat(
        title="Statements overdue",
        question="Are all statements of closed months made?",
        shows="Time since the end of the oldest month with missing statements; 0 if none are missing.",
        bad="Minutes after a month's end are normal. Later: *Groups to be made* shows whether the work goes on, *Dead"
        " letters* shows work that keeps failing, and `giro operator statement-runs` shows the month.",
        unit=units.Seconds,
        steps=rising(HOUR, 6 * HOUR),
        queries={"": read_by_scheduler("giro_statements_overdue_seconds")},
    ),
    Stat(
        title="Groups undone",
        question="How much of the month's work is left?",
        shows="Groups of accounts whose statements are not made yet, of all months.",
        bad="If the number does not fall, the jobs worker is down, or a group is parked as a dead letter.",
        unit=units.Short,
        steps=((None, "green"), (1, "yellow")),
        queries={"": UNDONE},
    ),
    Stat(
        title="Requested",
        question="Do customers wait for statements?",
        shows="Statements that customers requested and that are not made yet.",
        bad="More than 0 for minutes: the jobs worker is down, or busy with a month's end, or the work is parked.",
        unit=units.Short,
        steps=rising(10, 100),
        queries={"": REQUESTED},
    ),
    Stat(
        title="Last verification",
        question="When was the ledger last checked?",
        shows="Time since the end of the last scheduled verification of the whole ledger.",
        bad="Older than `GIRO_VERIFY_HOURS` (24 h): it does not run or does not end. Look for `job_failed` with"
        " `verify` in the log of the jobs worker. `giro verify` checks the ledger now.",
        unit=units.Seconds,
        steps=rising(25 * HOUR, 49 * HOUR),
        absent="none yet",
        queries={"": SINCE_VERIFICATION},
    ),
    Stat(
        title="Breaches",
        question="Is the ledger correct?",
        shows="Broken rules that the last verification found.",
        bad="More than 0: stop the service and keep the database as it is. `giro operator verification` names the"
        " rules and the accounts. `docs/reference/verification.md` explains each rule.",
        unit=units.Short,
        steps=none_allowed(),
        absent="none yet",
        queries={"": BREACHES},
    ),
    Stat(
        title="Dead letters",
        question="Does some work keep failing?",
        shows="Messages that are parked because their work failed three times in a row.",
        bad="`giro queue list` shows the errors. Fix the cause, then run `giro queue retry ID`. A group of statements"
        " is not made until then.",
        unit=units.Short,
        steps=none_allowed(),
        queries={"": DEAD_LETTERS},
    ),
)

LAST_BACKUP = Stat(
    title="Last backup",
    question="How much data would be lost with the disk?",
    shows="Time since the copy of the newest backup began. Later transfers are not in any backup.",
    bad="Older than `GIRO_BACKUP_HOURS` (24 h): look for `job_failed` with `back_up` in the log of the jobs worker."
    " `giro backup` makes a backup now.",
    unit=units.Seconds,
    steps=rising(25 * HOUR, 49 * HOUR),
    absent="none yet",
    queries={"": SINCE_BACKUP},
)

TIMETABLE = Stat(
    title="Scheduled jobs",
    question="Do the scheduled jobs run?",
    shows="How often each scheduled job has run since the start of the jobs worker, and the time since that start."
    " By default `anchor` runs every 5 minutes, `checkpoint` and `back_up` (which checks whether a backup is due) every"
    " 10, `verify_recent` every 15, `forget_expired_tokens` every hour, and `verify` every 24 hours.",
    bad="If a job has run too rarely for the time, the scheduler is down, or it cannot reach the queue"
    " (`queue_away` in its log). A job that is not shown has not run at all.",
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
                shows="Statements made per second. It is 0 for most of a month.",
                bad="0 while groups are undone: the jobs worker does not run, or each of its attempts fails.",
                unit=units.OpsPerSecond,
                queries={"made": per_second("giro_statements_made_total")},
            ),
            Graph(
                title="Groups to be made",
                question="How far is the month's work, and how long will it take?",
                shows="Groups of accounts in unfinished runs, and those whose statements are not made yet. The slope"
                " shows when the work will be done.",
                bad="A level line above 0: nothing is made. A single group that is left is usually a dead letter.",
                unit=units.Short,
                queries={"all": read_by_scheduler("giro_statement_groups"), "undone": UNDONE},
            ),
            Graph(
                title="Requested statements",
                question="Are the requests of customers served?",
                shows="Requested statements that are not made yet.",
                bad="If the line does not return to 0, see *Dead letters*, and check whether the jobs worker runs.",
                unit=units.Short,
                queries={"requested": REQUESTED},
            ),
            Graph(
                title="Large documents",
                question="Do customers wait for large documents?",
                shows="Large documents that wait to be made, and the age of the oldest in seconds.",
                bad="If the lines do not return to 0, see *Dead letters*, and check whether the jobs worker runs.",
                unit=units.Short,
                queries={
                    "pending": read_by_scheduler("giro_documents_pending"),
                    "age of the oldest": read_by_scheduler("giro_oldest_document_age_seconds"),
                },
            ),
            Graph(
                title="Time to draw a document",
                question="How long does a document take?",
                shows="Time to draw a CSV, PDF or camt.053 document, p99 of the last 15 minutes, by its maker: the API"
                " while the client waits, or a job.",
                bad="Above a second for `api`: other documents wait meanwhile. Lower `GIRO_DOCUMENT_ROWS`.",
                unit=units.Seconds,
                queries={"{{maker}}": quantile(0.99, "giro_document_duration_seconds", by="maker", window=QUARTER)},
            ),
            Graph(
                title="Refused documents",
                question="Are documents refused?",
                shows="Documents refused per second, by error code.",
                bad="`unavailable`: too many customers ask at once. `rate_limited`, `too_many_documents`: a customer"
                " asks for more than `GIRO_LIMIT_DOCUMENT_ROWS` or `GIRO_DOCUMENTS_PENDING` allow.",
                unit=units.OpsPerSecond,
                queries={"{{code}}": per_second("giro_documents_refused_total", by="code")},
            ),
            Graph(
                title="Time for a group",
                question="How long does a group of statements take?",
                shows="Time to make the statements of one group, or one requested statement, p50 and p99 of the last 15"
                " minutes. A gap means that none was made.",
                bad="It grows from month to month if the accounts have more transactions. Make groups smaller"
                " (`GIRO_STATEMENT_GROUP`), so that one message takes less time.",
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
                shows="Time since the newest backup began, and the age at which the next one is due"
                " (`GIRO_BACKUP_HOURS`; 0: no backups are made). Where changes are shipped, also the time"
                " since everything was, otherwise 0.",
                bad="Above the line, no backups are made. If the peaks become higher, the jobs worker is busy or down.",
                unit=units.Seconds,
                queries={
                    "age": SINCE_BACKUP,
                    "due at": read_by_scheduler("giro_backup_interval_seconds"),
                    "of the shipments": SINCE_SHIPPED,
                },
            ),
            Graph(
                title="Size of the newest backup",
                question="How much space do backups need?",
                shows="Size of the newest backup. `GIRO_BACKUP_KEEP` (7) backups are kept.",
                bad="It falls. The ledger only grows, so check what was backed up.",
                unit=units.BytesSI,
                queries={"size": read_by_scheduler("giro_backup_size_bytes")},
            ),
            Graph(
                title="Time of a backup",
                question="Does a backup take too long?",
                shows="How long the newest backup took, with the verification of the copy.",
                bad="It grows with the ledger. Other jobs wait meanwhile, and the write-ahead log grows during the"
                " copy.",
                unit=units.Seconds,
                queries={"last": read_by_scheduler("giro_backup_duration_seconds")},
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
                shows="Messages processed per second, by actor.",
                bad="If an actor is missing, it does not get its messages: see *Messages waiting* on *Service*.",
                unit=units.MessagesPerSecond,
                queries={"{{actor_name}}": per_second("dramatiq_messages_total", by="actor_name", window=QUARTER)},
            ),
            Graph(
                title="Time by actor",
                question="Which work takes long?",
                shows="Mean time of a message in the last 15 minutes, by actor. A gap means that there was none.",
                bad="A message that takes more than a few minutes delays the messages behind it. It is interrupted when"
                " the service stops, and its work is started again later.",
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
                title="Messages in progress",
                question="Is a worker stuck?",
                shows="Messages that are being processed now, by actor.",
                bad="If it is 1 for hours, the work hangs, even if the heartbeat goes on. Restart the worker. The work"
                " is started again later.",
                unit=units.Short,
                queries={"{{actor_name}}": "sum by (actor_name) (dramatiq_messages_inprogress)"},
            ),
            Graph(
                title="Failing jobs",
                question="Do jobs fail before they are parked?",
                shows="In the last hour: unexpected exceptions of the workers, and messages that failed before their"
                " work began.",
                bad="Find `job_failed` in the worker's log. The third failure in a row makes a dead letter. A message"
                " that fails before its work began was sent by another version, or not by Giro.",
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
