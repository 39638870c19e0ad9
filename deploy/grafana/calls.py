"""The section *HTTP* of the dashboard *Service*: requests, their errors, and what makes them wait."""

from grafana_foundation_sdk.models import units

from deploy.grafana.boards import Section
from deploy.grafana.panels import Graph
from deploy.grafana.promql import how_many, or_zero, per_second, quantile

REQUESTS = "giro_http_request_duration_seconds"
REFUSED = f'{REQUESTS}_count{{status=~"[45].."}}'

HTTP = Section(
    "HTTP",
    (
        (
            Graph(
                title="Requests by route",
                question="Which routes are called, and how often?",
                shows="Requests answered per second, by method and route.",
                bad="No requests at all: clients do not reach the API. If a single route rises, a client polls"
                " instead of waiting (`Prefer: wait`), or retries without a pause.",
                unit=units.RequestsPerSecond,
                queries={"{{method}} {{route}}": per_second(f"{REQUESTS}_count", by="method, route")},
            ),
            Graph(
                title="Errors by status",
                question="How many requests fail, and who causes it?",
                shows="Answers per second with a status of 400 or more.",
                bad="500 is a fault in Giro: see *Unhandled exceptions*. 503 means that the database or the disk is not"
                " available, or that too many requests wait. Below 500 the client is wrong: many 401 may be an attempt"
                " to guess credentials.",
                unit=units.RequestsPerSecond,
                stacked=True,
                queries={"{{status}}": or_zero(per_second(REFUSED, by="status"), "api", label="status")},
            ),
            Graph(
                title="Latency by route",
                question="Which calls are slow?",
                shows="99 of 100 requests took no longer, by route. It includes the wait of `Prefer: wait`, so see"
                " *Time to accept* on *Transfers* for transfers. A gap means that there were no requests.",
                bad="If all are slow, the machine or the disk is busy: see CPU below. `/login` is slow on purpose,"
                " because of bcrypt (`GIRO_PASSWORD_HASH_ROUNDS`). If only a list is slow, look at its requests.",
                unit=units.Seconds,
                queries={"{{route}}": quantile(0.99, REQUESTS, by="route")},
            ),
            Graph(
                title="Throttled",
                question="Which clients send too many requests, or guess?",
                shows="Requests of the last 5 minutes that were answered 429, by route and policy.",
                bad="`log-in-…`, `sign-up`, `password`, `refresh`: a client guesses, and `giro operator audit --action"
                " access_refused` shows the addresses. `writes` and similar: a client sends more requests than"
                " `GIRO_LIMIT_…` allows. If all clients have one address, `GIRO_TRUSTED_PROXIES` lacks your proxy.",
                unit=units.Short,
                stacked=True,
                queries={"{{route}} {{policy}}": how_many("giro_throttled_total", by="route, policy", window="5m")},
            ),
        ),
        (
            Graph(
                title="Requests in line",
                question="Do requests wait for their turn?",
                shows="Requests that wait to begin (`admission`), or for a reading session (`reads`, `log-ins`), a"
                " password hash (`passwords`, `passwords-of-users`) or a document (`documents`).",
                bad="Always above 0: there is more work than the machine does. If CPU below is high, it is too small,"
                " or a client sends too much: see *Requests by route*. Clients take turns, so a client with many"
                " requests mostly waits for itself.",
                unit=units.Short,
                stacked=True,
                queries={"{{line}}": "sum by (line) (giro_line_waiting)"},
            ),
            Graph(
                title="Refused in line",
                question="Do clients wait in vain?",
                shows="Requests of the last 5 minutes that got no turn: too many waited, it took too long, or the"
                " client disconnected.",
                bad="A lasting increase: the line is full, or clients give up. They are answered 503. See"
                " *Requests in line* for the work that is short of places.",
                unit=units.Short,
                stacked=True,
                queries={"{{line}}": how_many("giro_line_refused_total", by="line", window="5m")},
            ),
            Graph(
                title="Refusals held",
                question="Are many refusals held back?",
                shows="Refusals of clients beyond their share whose answer is held for up to `GIRO_REFUSAL_SECONDS`.",
                bad="Near a quarter of `GIRO_CONNECTIONS`, further refusals are sent at once. *Throttled* shows the"
                " policies. If the refusals come from many addresses, block them in front of the API.",
                unit=units.Short,
                queries={"held": "sum(giro_answers_held)"},
            ),
        ),
    ),
)
