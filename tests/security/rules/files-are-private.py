import os


def make(path):
    # ruleid: files-are-private
    os.open(path, os.O_RDWR | os.O_CREAT)
    # ruleid: files-are-private
    os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    # ruleid: files-are-private
    path.chmod(0o644)
    # ruleid: files-are-private
    os.umask(0o022)
    # ok: files-are-private
    os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    # ok: files-are-private
    os.open(path, os.O_RDONLY)
    # ok: files-are-private
    path.chmod(0o700)
    # ok: files-are-private
    os.umask(0o077)
