"""What every process counts and times, for Prometheus. One port per process; no label holds an id."""

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from core.settings import SettingsError

FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
LIFETIME = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600)
SIZE = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)

http_request_duration = Histogram(
    "giro_http_request_duration_seconds",
    "Time to answer a request.",
    ["method", "route", "status"],
    buckets=FAST,
)
unhandled_exceptions = Counter("giro_unhandled_exceptions_total", "Exceptions that no code expected.", ["process"])

transfers_accepted = Counter("giro_transfers_accepted_total", "Transfers accepted, replays not counted.")
transfers_refused = Counter("giro_transfers_refused_total", "Transfers refused, by error code.", ["code"])
accept_group_size = Histogram("giro_accept_group_size", "Requests written in one unit of work.", buckets=SIZE)
accept_commit_duration = Histogram(
    "giro_accept_duration_seconds", "Time from the database's lock to the end of the commit of a group.", buckets=FAST
)

transfers_settled = Counter(
    "giro_transfers_settled_total", "Transfers ended by settlement, by status and reason.", ["status", "reason"]
)
settlement_batch_size = Histogram("giro_settlement_batch_size", "Transfers settled in one unit of work.", buckets=SIZE)
settlement_duration = Histogram(
    "giro_settlement_duration_seconds", "Time of one settlement, its commit included.", buckets=FAST
)
transfer_lifetime = Histogram(
    "giro_transfer_lifetime_seconds", "Time from a transfer's acceptance to its end.", buckets=LIFETIME
)

wakeups = Counter("giro_wakeups_total", "Wake-ups for the settlement worker, by outcome.", ["outcome"])
swept = Counter("giro_sweep_wakeups_total", "Wake-ups sent because a transfer had been pending for too long.")
pending_transfers = Gauge("giro_pending_transfers", "Transfers that wait to be settled.")
oldest_pending_age = Gauge("giro_oldest_pending_age_seconds", "Age of the oldest transfer that waits to be settled.")

statements_made = Counter("giro_statements_made_total", "Statements made.")
statement_group_duration = Histogram(
    "giro_statement_group_duration_seconds", "Time to make the statements of one group of accounts.", buckets=LIFETIME
)
statement_groups_undone = Gauge("giro_statement_groups_undone", "Groups of accounts whose statements are to be made.")
dead_letters = Gauge("giro_dead_letters", "Messages that are parked, since their work kept failing.")

verification_breaches = Gauge("giro_verification_breaches", "Broken rules that the last verification found.")
verification_time = Gauge("giro_verification_timestamp_seconds", "When the last verification ended.")
heartbeat = Gauge("giro_heartbeat_timestamp_seconds", "When this process last said that it is alive.")


def serve_metrics(host: str, port: int, *, variable: str) -> None:
    """Answer `GET /metrics` on a port of its own, in a thread; port 0 serves nothing.

    Raises SettingsError, naming the setting's `variable`, when the port cannot be had.
    """
    if port == 0:
        return
    try:
        start_http_server(port, host)
    except OSError as error:
        raise SettingsError(f"{variable}: cannot listen on {host}:{port} ({error.strerror})") from None
