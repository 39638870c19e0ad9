import uvicorn

# ruleid: listening-is-a-setting
uvicorn.Config("api.app:app", host="0.0.0.0")
# ruleid: listening-is-a-setting
HOST = "::"
# ok: listening-is-a-setting
uvicorn.Config("api.app:app", host="127.0.0.1")
# ok: listening-is-a-setting
PREFIX = "cursor::"
