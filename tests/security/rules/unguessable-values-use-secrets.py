# ruleid: unguessable-values-use-secrets
import random

# ok: unguessable-values-use-secrets
import secrets
import uuid

# ruleid: unguessable-values-use-secrets
from random import randrange

# ruleid: unguessable-values-use-secrets
uuid.uuid1()
# ok: unguessable-values-use-secrets
secrets.randbelow(10)
