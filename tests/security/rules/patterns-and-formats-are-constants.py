import re

LONGEST = 64
BIN = "412345"
_REFERENCE = "#/components/{model}"


def check(text, pattern, sent):
    # ruleid: patterns-and-formats-are-constants
    re.compile(pattern)
    # ruleid: patterns-and-formats-are-constants
    re.fullmatch(sent["pattern"], text)
    # ruleid: patterns-and-formats-are-constants
    re.search(f"{sent}$", text)
    # ruleid: patterns-and-formats-are-constants
    sent.format(model="Currency")
    # ok: patterns-and-formats-are-constants
    re.compile(rf"[!-~]{{1,{LONGEST}}}")
    # ok: patterns-and-formats-are-constants
    re.compile(rf"{BIN}[0-9]{{{LONGEST - len(BIN)}}}")
    # ok: patterns-and-formats-are-constants
    re.compile(r"[\x00-\x1f\ud800-\udfff]")
    # ok: patterns-and-formats-are-constants
    re.sub("|".join(map(re.escape, sent)), "", text)
    # ok: patterns-and-formats-are-constants
    re.sub(r"\s+", " ", text)
    # ok: patterns-and-formats-are-constants
    _REFERENCE.format(model="Currency")
