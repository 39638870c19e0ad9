import asyncio
import json
import os

# ruleid: nothing-is-run-that-was-sent
import pickle
import re
import subprocess

import dramatiq
import yaml

# ruleid: nothing-is-run-that-was-sent
from marshal import loads


def run(sent, path):
    # ruleid: nothing-is-run-that-was-sent
    eval(sent)
    # ruleid: nothing-is-run-that-was-sent
    exec(sent)
    # ruleid: nothing-is-run-that-was-sent
    compile(sent, "sent", "exec")
    # ruleid: nothing-is-run-that-was-sent
    __import__(sent)
    # ruleid: nothing-is-run-that-was-sent
    yaml.load(sent, Loader=yaml.Loader)
    # ruleid: nothing-is-run-that-was-sent
    subprocess.run(f"ls {path}", shell=True, check=True)
    # ruleid: nothing-is-run-that-was-sent
    os.system(f"ls {path}")
    # ruleid: nothing-is-run-that-was-sent
    asyncio.create_subprocess_shell(sent)
    # ruleid: nothing-is-run-that-was-sent
    dramatiq.set_encoder(dramatiq.PickleEncoder())
    # ok: nothing-is-run-that-was-sent
    re.compile("[a-z]+")
    # ok: nothing-is-run-that-was-sent
    yaml.safe_load(sent)
    # ok: nothing-is-run-that-was-sent
    json.loads(sent)
    # ok: nothing-is-run-that-was-sent
    subprocess.run(["ls", path], check=True)
