import asyncio
import json
import os

# ruleid: input-is-never-executed
import pickle
import re
import subprocess

import dramatiq
import yaml

# ruleid: input-is-never-executed
from marshal import loads


def run(sent, path):
    # ruleid: input-is-never-executed
    eval(sent)
    # ruleid: input-is-never-executed
    exec(sent)
    # ruleid: input-is-never-executed
    compile(sent, "sent", "exec")
    # ruleid: input-is-never-executed
    __import__(sent)
    # ruleid: input-is-never-executed
    yaml.load(sent, Loader=yaml.Loader)
    # ruleid: input-is-never-executed
    subprocess.run(f"ls {path}", shell=True, check=True)
    # ruleid: input-is-never-executed
    os.system(f"ls {path}")
    # ruleid: input-is-never-executed
    asyncio.create_subprocess_shell(sent)
    # ruleid: input-is-never-executed
    dramatiq.set_encoder(dramatiq.PickleEncoder())
    # ok: input-is-never-executed
    re.compile("[a-z]+")
    # ok: input-is-never-executed
    yaml.safe_load(sent)
    # ok: input-is-never-executed
    json.loads(sent)
    # ok: input-is-never-executed
    subprocess.run(["ls", path], check=True)
