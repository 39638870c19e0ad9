import uvicorn

# ruleid: listen-addresses-are-settings
uvicorn.Config("api.app:app", host="0.0.0.0")
# ruleid: listen-addresses-are-settings
HOST = "::"
# ok: listen-addresses-are-settings
uvicorn.Config("api.app:app", host="127.0.0.1")
# ok: listen-addresses-are-settings
PREFIX = "cursor::"
