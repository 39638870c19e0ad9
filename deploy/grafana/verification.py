"""The section of the dashboard *Jobs* about verification, anchors and checkpoints."""

from grafana_foundation_sdk.models import units

from deploy.grafana.boards import Section
from deploy.grafana.panels import Graph
from deploy.grafana.promql import how_many, quantile, read_by_scheduler

QUARTER = "15m"
"""Jobs are rare. Most of them would not occur in a shorter window."""

BREACHES = read_by_scheduler("giro_verification_breaches")
SINCE_VERIFICATION = 'time() - max(giro_verification_timestamp_seconds{process="scheduler"})'

CARE = Section(
    "Verification and checkpoints",
    (
        (
            Graph(
                title="Time of a verification",
                question="Does the verification become too slow?",
                shows="How long the last verification of the whole ledger took.",
                bad="It grows with the ledger. If it takes hours, verify the whole ledger less often"
                " (`GIRO_VERIFY_HOURS`). New transfers are verified in between.",
                unit=units.Seconds,
                queries={"last": read_by_scheduler("giro_verification_duration_seconds")},
            ),
            Graph(
                title="Breaches found",
                question="Since when is a rule broken?",
                shows="Broken rules that the last verification found, over time.",
                bad="The rule was broken between the last verification without breaches and the first with breaches."
                " Look for deployments and machine faults in that time. *Breaches* says what to do.",
                unit=units.Short,
                queries={"breaches": BREACHES},
            ),
            Graph(
                title="Blocks without an anchor",
                question="Are the settled transfers signed?",
                shows="How long the oldest block above the last anchor has waited, and the oldest anchor for a stamp of"
                " the authority, if there is one; 0 if none waits.",
                bad="More than a few times `GIRO_ANCHOR_MINUTES`: the jobs worker does not run, the anchor file cannot"
                " be written (`anchor_not_written` in its log), or the authority does not answer.",
                unit=units.Seconds,
                queries={
                    "without an anchor": read_by_scheduler("giro_unanchored_seconds"),
                    "without a stamp": read_by_scheduler("giro_unstamped_seconds"),
                },
            ),
            Graph(
                title="Isolated accounts and scars",
                question="Is the bank on its way back from a breach?",
                shows="Accounts whose transfers fail because of a breach, and scars in the chain of blocks.",
                bad="An isolated account waits for its repair and `giro isolate --release`. A scar stays for ever.",
                unit=units.Short,
                queries={
                    "isolated accounts": read_by_scheduler("giro_isolated_accounts"),
                    "scars": read_by_scheduler("giro_ledger_scars"),
                },
            ),
            Graph(
                title="Height of the chain",
                question="How fast does the chain of blocks grow, and how much of it is signed?",
                shows="Height of the newest block, and of the newest block with an anchor.",
                bad="The two lines differ for more than `GIRO_ANCHOR_MINUTES`.",
                unit=units.Short,
                queries={
                    "newest": read_by_scheduler("giro_block_height"),
                    "anchored": read_by_scheduler("giro_anchored_height"),
                },
            ),
            Graph(
                title="Checkpoints",
                question="How long does it take to truncate the write-ahead log?",
                shows="Time of the checkpoints in the last 15 minutes, p50 and p99. A gap means that there was none.",
                bad="Writers wait during a checkpoint. Long checkpoints follow a burst of transfers: checkpoint more"
                " often (`GIRO_CHECKPOINT_MINUTES`). If no checkpoints run, see *Scheduled jobs*.",
                unit=units.Seconds,
                queries={
                    "p50": quantile(0.5, "giro_checkpoint_duration_seconds", window=QUARTER),
                    "p99": quantile(0.99, "giro_checkpoint_duration_seconds", window=QUARTER),
                },
            ),
            Graph(
                title="Blocked checkpoints",
                question="Does a reader block the write-ahead log?",
                shows="Checkpoints of the last hour that could not truncate the log, because a reader still used it.",
                bad="One during a verification is normal. If all are blocked, a reader never ends, perhaps a tool that"
                " has the database open. The log grows meanwhile (*Database size* on *Service*).",
                unit=units.Short,
                queries={"blocked": how_many("giro_checkpoints_blocked_total", window="1h")},
            ),
        ),
    ),
)
