import ssl
import urllib.request

import httpx2

# ruleid: http-clients-are-strict
httpx2.get("https://bank.example", trust_env=False, follow_redirects=True)
# ruleid: http-clients-are-strict
httpx2.Client(trust_env=False, verify=False)
# ruleid: http-clients-are-strict
httpx2.AsyncClient(base_url="http://127.0.0.1")
# ruleid: http-clients-are-strict
ssl._create_unverified_context()
# ruleid: http-clients-are-strict
urllib.request.urlopen("file:///etc/passwd")
# ok: http-clients-are-strict
httpx2.Client(base_url="http://127.0.0.1", trust_env=False, timeout=5)
