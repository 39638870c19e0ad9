# ruleid: chance-that-matters-is-secret
import random

# ok: chance-that-matters-is-secret
import secrets
import uuid

# ruleid: chance-that-matters-is-secret
from random import randrange

# ruleid: chance-that-matters-is-secret
uuid.uuid1()
# ok: chance-that-matters-is-secret
secrets.randbelow(10)
