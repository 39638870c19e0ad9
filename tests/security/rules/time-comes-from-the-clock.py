import time
from datetime import UTC, date, datetime

from core.clock import now_us, to_datetime

# ruleid: time-comes-from-the-clock
datetime.now()
# ruleid: time-comes-from-the-clock
datetime.now(UTC)
# ruleid: time-comes-from-the-clock
datetime.utcnow()
# ruleid: time-comes-from-the-clock
date.today()
# ruleid: time-comes-from-the-clock
datetime.fromtimestamp(0)
# ruleid: time-comes-from-the-clock
time.time_ns()
# ok: time-comes-from-the-clock
to_datetime(now_us())
# ok: time-comes-from-the-clock
datetime.fromtimestamp(0, UTC)
# ok: time-comes-from-the-clock
time.monotonic()
