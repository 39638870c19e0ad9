"""The dashboard *Service*, which shows whether every part runs, and the resources that the parts use."""

from grafana_foundation_sdk.models import units

from deploy.grafana.boards import Board, Section
from deploy.grafana.calls import HTTP
from deploy.grafana.panels import UP_OR_DOWN, Graph, Stat, falling, none_allowed, rising
from deploy.grafana.promql import WINDOW, how_many, per_second, quantile, read_by_scheduler

PROCESSES = ("api", "settlement", "jobs", "scheduler")
CHOSEN = '{process=~"$process"}'
GIGABYTE = 10**9

PARTS = Section(
    "Does every part run?",
    (
        (
            Stat(
                title="Processes",
                question="Which processes run?",
                shows="Whether Prometheus reaches the metrics port of each process.",
                bad="The supervisor restarts a process that has died or hangs. If it stays down, the log of `giro up`"
                " or of its container says why. While the API is down, no transfers are accepted. While settlement is"
                " down, accepted transfers wait.",
                unit=units.NoUnit,
                steps=falling(1, 1),
                meanings=UP_OR_DOWN,
                # A target that Prometheus does not know also counts as down.
                queries={name: f'max(up{{job="giro", process="{name}"}}) or vector(0)' for name in PROCESSES},
            ),
            Stat(
                title="Heartbeats",
                question="Is each process alive, or does it only keep its port open?",
                shows="Age of each process's last heartbeat at the last scrape, by its own clock.",
                bad="Older than `GIRO_SILENT_SECONDS` (20 s): the process hangs, and the supervisor restarts it. If"
                " this happens repeatedly, the disk or the database does not answer.",
                unit=units.Seconds,
                steps=rising(10, 20),
                decimals=1,
                queries={
                    "{{process}}": "max by (process) (giro_clock_timestamp_seconds - giro_heartbeat_timestamp_seconds)"
                },
            ),
        ),
        (
            Stat(
                title="Settlement workers",
                question="Does exactly one worker settle?",
                shows="Number of active settlement workers. Workers on standby do not count.",
                bad="0: no worker settles, and transfers wait. Start one (`giro worker`). A lock prevents 2 on one"
                " database; 2 means that two services with two databases are scraped.",
                unit=units.NoUnit,
                steps=((None, "red"), (1, "green"), (2, "red")),
                meanings={"0": ("none", "red")},
                queries={"": 'sum(giro_settlement_active{process="settlement"}) or vector(0)'},
            ),
            Stat(
                title="Settlement halted",
                question="Is settlement halted because of a broken ledger?",
                shows="1 while settlement is halted because the last verification found a breach, or because the chain"
                " of blocks does not end where the ledger does.",
                bad="Transfers are accepted and wait. `docs/how-to/when-verify-fails.md` says what to do.",
                unit=units.NoUnit,
                steps=none_allowed(),
                meanings={"0": ("no", "green"), "1": ("halted", "red")},
                queries={"": 'max(giro_settlement_halted{process="settlement"}) or vector(0)'},
            ),
            Stat(
                title="Queue server",
                question="Does the queue answer?",
                shows="Whether the scheduler reaches the queue server (Redis or Valkey).",
                bad="Transfers are accepted and none is lost, but settlement and jobs get no messages until it is back."
                " Look at its log (`data/run/valkey.log` if Giro runs it) and at `REDIS_URL`.",
                unit=units.NoUnit,
                steps=falling(1, 1),
                meanings=UP_OR_DOWN,
                queries={"": read_by_scheduler("giro_queue_up")},
            ),
            Stat(
                title="Free disk",
                question="When will the disk be full?",
                shows="Free space on the disk that holds the database.",
                bad="Below `GIRO_DISK_FREE_MB` (200 MB) `/health/ready` fails. With a full disk every transfer is"
                " refused. Free some space or enlarge the volume. The next checkpoint truncates a large write-ahead"
                " log.",
                unit=units.BytesSI,
                steps=falling(5 * GIGABYTE, GIGABYTE),
                queries={"": read_by_scheduler("giro_disk_free_bytes")},
            ),
            Stat(
                title="Unhandled exceptions",
                question="Did something unexpected happen?",
                shows="Unexpected exceptions of the last hour, in all processes.",
                bad="There is a fault in Giro or in its environment. Find `unhandled_exception` (API) or `job_failed`"
                " (workers) in the logs: the line contains the traceback. Clients of the API were answered 500.",
                unit=units.Short,
                steps=none_allowed(0.1),
                decimals=0,
                queries={"": how_many("giro_unhandled_exceptions_total", window="1h")},
            ),
            Stat(
                title="Restarts",
                question="Do processes die?",
                shows="Number of restarts of processes in the last hour.",
                bad="The supervisor restarts a process that dies. If there are more restarts than deployments, read"
                " the last lines of the process's log (`child_died` in the supervisor's log) and look at its memory"
                " below.",
                unit=units.Short,
                steps=rising(1, 4),
                decimals=0,
                queries={"": 'sum(changes(process_start_time_seconds{job="giro"}[1h]))'},
            ),
            Stat(
                title="Build",
                question="Which version runs, and is it the same in all processes?",
                shows="Versions of Giro, Python and SQLite, for each different build among the processes.",
                bad="More than one: some processes were not restarted after an update. Restart them, because two"
                " versions must not write to one database.",
                unit=units.NoUnit,
                names_only=True,
                queries={
                    "{{version}}, Python {{python}}, SQLite {{sqlite}}": "count by (version, python, sqlite)"
                    " (giro_build_info)"
                },
            ),
        ),
    ),
)

DATABASE = Section(
    "Database",
    (
        (
            Graph(
                title="Lock waits",
                question="Do writers wait for each other?",
                shows="99 of 100 times a process waited no longer for its turn to write. A gap means that it did not"
                " write.",
                bad="The cause is not the process that waits, but the one that holds the lock. Compare *Time under the"
                " lock* on *Transfers* and the jobs that ran then (*Jobs*). If all wait long, see *Commits*.",
                unit=units.Seconds,
                queries={"{{process}}": quantile(0.99, "giro_lock_wait_duration_seconds", by="process", where=CHOSEN)},
            ),
            Graph(
                title="Commits",
                question="Is the disk fast enough?",
                shows="99 of 100 commits took no longer, including the disk's confirmation (fsync). A gap means that"
                " there was none.",
                bad="A good disk takes milliseconds. Above 50 ms every accept and every settlement is slow: another"
                " program writes to the disk, or the volume is throttled or worn.",
                unit=units.Seconds,
                queries={"{{process}}": quantile(0.99, "giro_commit_duration_seconds", by="process", where=CHOSEN)},
            ),
            Graph(
                title="Database errors",
                question="Does the database fail?",
                shows="Errors of SQLite in the last 5 minutes, by SQLite's name.",
                bad="`SQLITE_FULL`: free some space. `SQLITE_BUSY`: another program, such as a backup tool, locks it."
                " `SQLITE_IOERR`, `SQLITE_CORRUPT`: stop the service, keep the file, and verify a copy of it.",
                unit=units.Short,
                stacked=True,
                queries={"{{error}}": how_many("giro_database_errors_total", by="error", window="5m")},
            ),
            Graph(
                title="Database size",
                question="How fast does the data grow?",
                shows="Size of the database and of its write-ahead log.",
                bad="If the log keeps growing, it is not truncated: a long reader blocks it, or checkpoints do not run"
                " (*Checkpoints* on *Jobs*). The database itself never shrinks.",
                unit=units.BytesSI,
                queries={
                    "database": read_by_scheduler("giro_database_size_bytes"),
                    "write-ahead log": read_by_scheduler("giro_wal_size_bytes"),
                },
            ),
        ),
    ),
)

QUEUE = Section(
    "Queue",
    (
        (
            Graph(
                title="Messages waiting",
                question="Is there work that no worker takes?",
                shows="Messages in each queue.",
                bad="If a queue only grows, its worker is down or stuck. `settlement` rarely has more than one message."
                " `statements` fills at a month's end and empties again. Messages are hints, so deleting them loses"
                " nothing.",
                unit=units.Short,
                queries={"{{queue}}": read_by_scheduler("giro_queue_messages", by="queue")},
            ),
            Graph(
                title="Wake-ups by outcome",
                question="Is settlement woken when transfers are accepted?",
                shows="Wake-ups per second: *sent*, *coalesced* (one was on its way already), *failed* (the queue"
                " server did not answer).",
                bad="*failed*: the queue server is down or too slow. Transfers then wait for the sweep, for about two"
                " seconds. None is lost.",
                unit=units.OpsPerSecond,
                queries={"{{outcome}}": per_second("giro_wakeups_total", by="outcome")},
            ),
        ),
    ),
)

MACHINE = Section(
    "Processes and clocks",
    (
        (
            Graph(
                title="CPU",
                question="Which process is busy?",
                shows="CPU time that each process uses; 100 % is one core.",
                bad="If the API or settlement is at 100 % for minutes, the limit of this machine is reached, because"
                " each writes in one thread. Jobs at 100 % is a verification or a month's statements, and ends by"
                " itself.",
                unit=units.PercentUnit,
                queries={"{{process}}": f"sum by (process) (rate(process_cpu_seconds_total{CHOSEN}[{WINDOW}]))"},
            ),
            Graph(
                title="Memory",
                question="Does a process use more and more memory?",
                shows="Resident memory of each process.",
                bad="It includes the page cache of the database (`GIRO_SQLITE_CACHE_MB` for each connection), so it"
                " rises at first. If it rises for days, there is a leak: restart the process, and report it.",
                unit=units.BytesSI,
                queries={"{{process}}": f"sum by (process) (process_resident_memory_bytes{CHOSEN})"},
            ),
            Graph(
                title="Failed log-ins",
                question="Does a client guess passwords?",
                shows="Failed log-ins of the last 5 minutes.",
                bad="Many failures come from a client that guesses, or from one with an old password. `giro operator"
                " audit --action log_in_failed` shows the addresses. Block them in front of the API.",
                unit=units.Short,
                queries={"failed": how_many("giro_login_failures_total", window="5m")},
            ),
            Graph(
                title="Clocks",
                question="Do the clocks agree?",
                shows="How far the clock of each process is ahead of Prometheus's clock, and how far the newest"
                " transaction is ahead of the scheduler's clock. A single peak is a slow scrape. The jump is how far"
                " the clock moved more than the monotonic clock since it was last trusted.",
                bad="Half a second or more: fix the time service (NTP) of that machine. If the ledger is ahead, a clock"
                " was wrong before: new transactions get that time until it is reached, and a clock that is ahead at a"
                " month's end closes the month too early. A jump of more than a day holds that until you confirm it.",
                unit=units.Seconds,
                least=None,
                queries={
                    "{{process}}": "max by (process)"
                    f" (giro_clock_timestamp_seconds{CHOSEN} - timestamp(giro_clock_timestamp_seconds{CHOSEN}))",
                    "ledger": read_by_scheduler("giro_ledger_ahead_seconds"),
                    "jump": read_by_scheduler("giro_clock_difference_seconds"),
                },
            ),
            Graph(
                title="Clock in doubt",
                question="Are months closed, and does what has expired go?",
                shows="1 while the clock has jumped by more than a day, and until it is right again or confirmed.",
                bad="Fix the clock. If it is right, confirm it with `giro clock accept`.",
                unit=units.Short,
                queries={"in doubt": read_by_scheduler("giro_clock_in_doubt")},
            ),
        ),
    ),
)

BOARD = Board(
    name="service",
    title="Giro: Service",
    about="Does every part run, and does it have what it needs? Processes, HTTP, database, queue, disk and clocks.",
    sections=(PARTS, HTTP, DATABASE, QUEUE, MACHINE),
    by_process=True,
)
