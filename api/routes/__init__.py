"""The routes, one file for each noun. `ROUTERS` gathers them."""

from api.routes import (
    accounts,
    audit,
    batches,
    cards,
    dead_letters,
    docs,
    documents,
    health,
    home,
    operators,
    statement_runs,
    statements,
    tokens,
    transfers,
    users,
    verification,
)

# Routes are tried in this order, so those that are asked most often come first.
ROUTERS = (
    transfers.submit_router,
    transfers.router,
    batches.router,
    accounts.router,
    cards.router,
    statements.router,
    documents.router,
    transfers.operator_router,
    operators.router,
    dead_letters.router,
    statement_runs.router,
    verification.router,
    audit.router,
    users.router,
    tokens.router,
    home.router,
    health.router,
    docs.router,
)
