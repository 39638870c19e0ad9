"""The dashboard *Service*, which answers whether every part runs, and what the parts cost."""

from grafana_foundation_sdk.models import units

from deploy.grafana.boards import Board, Section
from deploy.grafana.panels import UP_OR_DOWN, Graph, Stat, falling, none_allowed, rising
from deploy.grafana.promql import WINDOW, how_many, or_zero, per_second, quantile, read_by_scheduler

PROCESSES = ("api", "settlement", "jobs", "scheduler")
CHOSEN = '{process=~"$process"}'
REQUESTS = "giro_http_request_duration_seconds"
REFUSED = f'{REQUESTS}_count{{status=~"[45].."}}'
GIGABYTE = 10**9

PARTS = Section(
    "Does every part run?",
    (
        (
            Stat(
                title="Processes",
                question="Which processes run?",
                shows="Whether Prometheus reaches the metrics port of each process.",
                bad="The supervisor starts a process again that has died or is silent: if it stays down, `giro up` or"
                " its container says why. While the API is down nothing is accepted; while settlement is, it is kept.",
                unit=units.NoUnit,
                steps=falling(1, 1),
                meanings=UP_OR_DOWN,
                # A target that Prometheus does not even know of is down too.
                queries={name: f'max(up{{job="giro", process="{name}"}}) or vector(0)' for name in PROCESSES},
            ),
            Stat(
                title="Heartbeats",
                question="Is each process alive, or does it only hold its port?",
                shows="How long ago each process said that it is alive, by its own clock, at the last scrape.",
                bad="Older than `GIRO_SILENT_SECONDS` (20 s): the process hangs, and the supervisor restarts it. Again"
                " and again means a disk or a database that does not answer.",
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
                shows="How many settlement workers are active. Others stand by, and do not count.",
                bad="0: nobody settles, transfers wait; start one (`giro worker`). 2 cannot be, as a lock forbids it:"
                " two services on two databases would look like this.",
                unit=units.NoUnit,
                steps=((None, "red"), (1, "green"), (2, "red")),
                meanings={"0": ("nobody", "red")},
                queries={"": 'sum(giro_settlement_active{process="settlement"}) or vector(0)'},
            ),
            Stat(
                title="Settlement halted",
                question="Does the ledger verify, so that it may be built on?",
                shows="1 while nothing is settled since the last verification found a breach, or the chain of blocks"
                " does not end where the ledger does.",
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
                bad="Transfers are accepted and none is lost, but settlement and jobs are not woken until it is back."
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
                bad="Below `GIRO_DISK_FREE_MB` (200 MB) `/health/ready` says no; a full disk refuses every transfer."
                " Make room, or give the volume more; a large write-ahead log is cut back by the next checkpoint.",
                unit=units.BytesSI,
                steps=falling(5 * GIGABYTE, GIGABYTE),
                queries={"": read_by_scheduler("giro_disk_free_bytes")},
            ),
            Stat(
                title="Unhandled exceptions",
                question="Has something happened that nobody expected?",
                shows="Exceptions of the last hour that no code expected, in all processes.",
                bad="A fault in Giro or around it. Find `unhandled_exception` (API) or `job_failed` (workers) in the"
                " logs: the traceback stands in the line. Clients of the API were answered 500.",
                unit=units.Short,
                steps=none_allowed(0.1),
                decimals=0,
                queries={"": how_many("giro_unhandled_exceptions_total", window="1h")},
            ),
            Stat(
                title="Restarts",
                question="Do processes die?",
                shows="How often processes were started again within the last hour.",
                bad="A process that dies is restarted by its supervisor. More than a deployment's worth: read what it"
                " said last (`child_died` in the supervisor's log) and look at its memory below.",
                unit=units.Short,
                steps=rising(1, 4),
                decimals=0,
                queries={"": 'sum(changes(process_start_time_seconds{job="giro"}[1h]))'},
            ),
            Stat(
                title="Build",
                question="Which version runs, and the same one everywhere?",
                shows="Version of Giro, of Python and of SQLite, for each different build among the processes.",
                bad="More than one: some processes were not restarted after an update. Restart them; two versions must"
                " not write into one database.",
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

HTTP = Section(
    "HTTP",
    (
        (
            Graph(
                title="Requests by route",
                question="What is asked for, and how often?",
                shows="Requests answered in a second, by method and route.",
                bad="Nothing at all: clients do not reach the API. One route rising alone: a client polls instead of"
                " waiting (`Prefer: wait`), or retries without a pause.",
                unit=units.RequestsPerSecond,
                queries={"{{method}} {{route}}": per_second(f"{REQUESTS}_count", by="method, route")},
            ),
            Graph(
                title="Errors by status",
                question="How many requests go wrong, and whose mistake is it?",
                shows="Answers in a second with a status of 400 or more.",
                bad="500 is a fault of ours: see *Unhandled exceptions*. 503 means that the database or the disk cannot"
                " be used or too much waits. Below 500 the client is wrong: a wave of 401 may be somebody guessing.",
                unit=units.RequestsPerSecond,
                stacked=True,
                queries={"{{status}}": or_zero(per_second(REFUSED, by="status"), "api", label="status")},
            ),
            Graph(
                title="Latency by route",
                question="Which calls are slow?",
                shows="99 of 100 requests took no longer, by route. With `Prefer: wait` the wait is in it: see *Time to"
                " accept* on *Transfers* for transfers. A gap: none came.",
                bad="All of them: the machine or the disk is busy; see CPU below. `/login` alone: bcrypt is meant to be"
                " slow (`GIRO_PASSWORD_HASH_ROUNDS`). A list alone: look at what its client asks for.",
                unit=units.Seconds,
                queries={"{{route}}": quantile(0.99, REQUESTS, by="route")},
            ),
            Graph(
                title="Throttled",
                question="Who asks too often, or guesses?",
                shows="Requests of the last 5 minutes that were answered 429, by route and policy.",
                bad="`log-in-…`, `sign-up`, `password`, `refresh`: somebody guesses; `giro operator audit --action"
                " access_refused` shows the addresses. `writes` and the like: a client asks faster than"
                " `GIRO_LIMIT_…` allows. One address for everybody: `GIRO_TRUSTED_PROXIES` lacks your proxy.",
                unit=units.Short,
                stacked=True,
                queries={"{{route}} {{policy}}": how_many("giro_throttled_total", by="route, policy", window="5m")},
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
                question="Do writers keep each other waiting?",
                shows="99 of 100 times a process waited no longer for its turn to write. A gap: it did not write.",
                bad="Who waits is not to blame: another one holds the lock. Compare *Time under the lock* on"
                " *Transfers* and the jobs that ran then (*Jobs*). All of them slow: see *Commits*.",
                unit=units.Seconds,
                queries={"{{process}}": quantile(0.99, "giro_lock_wait_duration_seconds", by="process", where=CHOSEN)},
            ),
            Graph(
                title="Commits",
                question="Is the disk fast enough?",
                shows="99 of 100 commits took no longer, the disk's confirmation (fsync) included. A gap: there was"
                " none.",
                bad="Milliseconds are a good disk; above 50 ms every accept and every settlement is slow. Another"
                " program writes to the disk, or the volume is throttled or worn.",
                unit=units.Seconds,
                queries={"{{process}}": quantile(0.99, "giro_commit_duration_seconds", by="process", where=CHOSEN)},
            ),
            Graph(
                title="Database errors",
                question="Does the database refuse to work?",
                shows="Errors of the last 5 minutes that SQLite answered, by its own name.",
                bad="`SQLITE_FULL`: make room. `SQLITE_BUSY`: something outside Giro holds the file, as a backup tool"
                " does. `SQLITE_IOERR`, `SQLITE_CORRUPT`: stop, keep the file, verify a copy of it.",
                unit=units.Short,
                stacked=True,
                queries={"{{error}}": how_many("giro_database_errors_total", by="error", window="5m")},
            ),
            Graph(
                title="Database size",
                question="How fast does the data grow?",
                shows="Size of the database and of its write-ahead log.",
                bad="A log that grows without end is not cut back: a long reader holds it, or checkpoints do not run"
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
                question="Is there work that nobody takes?",
                shows="Messages in each queue.",
                bad="A queue that only grows: its worker is down or stuck. `settlement` rarely holds more than one;"
                " `statements` fills at a month's end and drains. Messages are hints, so clearing them loses nothing.",
                unit=units.Short,
                queries={"{{queue}}": read_by_scheduler("giro_queue_messages", by="queue")},
            ),
            Graph(
                title="Wake-ups by outcome",
                question="Is settlement woken when something is accepted?",
                shows="Wake-ups in a second: *sent*, *coalesced* (one was on its way already), *failed* (the queue"
                " server did not answer).",
                bad="*failed*: the queue server is away or too slow. Transfers then wait for the sweep, some two"
                " seconds, and none is lost.",
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
                question="Which process works?",
                shows="Share of one core that each process uses; 100 % is one core.",
                bad="The API or settlement at 100 % for minutes: this machine's limit is reached, as each writes in one"
                " thread. Jobs at 100 % is a verification or a month's statements, and passes.",
                unit=units.PercentUnit,
                queries={"{{process}}": f"sum by (process) (rate(process_cpu_seconds_total{CHOSEN}[{WINDOW}]))"},
            ),
            Graph(
                title="Memory",
                question="Does a process grow?",
                shows="Memory that each process holds (resident).",
                bad="The page cache of the database is in it (`GIRO_SQLITE_CACHE_MB` for each connection), so it rises"
                " at first. A line that climbs for days is a leak: restart the process, and report it.",
                unit=units.BytesSI,
                queries={"{{process}}": f"sum by (process) (process_resident_memory_bytes{CHOSEN})"},
            ),
            Graph(
                title="Failed log-ins",
                question="Does somebody guess passwords?",
                shows="Log-ins of the last 5 minutes that were refused.",
                bad="A wave is somebody who guesses, or a client with an old password: `giro operator audit --action"
                " log_in_failed` shows the addresses. Block them before the API.",
                unit=units.Short,
                queries={"failed": how_many("giro_login_failures_total", window="5m")},
            ),
            Graph(
                title="Clocks",
                question="Do the clocks agree?",
                shows="How far the clock of each process is ahead of Prometheus's, and how far the newest transaction"
                " lies in the future of the scheduler's clock. A single spike is a scrape that took long.",
                bad="Half a second or more: mend the time service (NTP) of that machine. A ledger ahead means that a"
                " clock was wrong before: new transactions are stamped with that time until it is reached, and a clock"
                " ahead at a month's end closes the month too early.",
                unit=units.Seconds,
                least=None,
                queries={
                    "{{process}}": "max by (process)"
                    f" (giro_clock_timestamp_seconds{CHOSEN} - timestamp(giro_clock_timestamp_seconds{CHOSEN}))",
                    "ledger": read_by_scheduler("giro_ledger_ahead_seconds"),
                },
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
