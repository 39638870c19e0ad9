import ssl
import urllib.request

import httpx2

# ruleid: nobody-is-followed-or-believed-outside
httpx2.get("https://bank.example", trust_env=False, follow_redirects=True)
# ruleid: nobody-is-followed-or-believed-outside
httpx2.Client(trust_env=False, verify=False)
# ruleid: nobody-is-followed-or-believed-outside
httpx2.AsyncClient(base_url="http://127.0.0.1")
# ruleid: nobody-is-followed-or-believed-outside
ssl._create_unverified_context()
# ruleid: nobody-is-followed-or-believed-outside
urllib.request.urlopen("file:///etc/passwd")
# ok: nobody-is-followed-or-believed-outside
httpx2.Client(base_url="http://127.0.0.1", trust_env=False, timeout=5)
