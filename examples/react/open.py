"""What the backend of a real page does: ask the server for a token that may trigger one task, and give it to the page.

python open.py http://localhost:5173
"""

from __future__ import annotations

import sys
from urllib.parse import urlencode

import httpx

from outlast.client.address import find


def address_of_page(page: str) -> str:
    server = find()
    asked = {"scopes": ["trigger:tasks:tell-story"], "expirationTime": "1h"}
    answer = httpx.post(
        f"{server.url}/api/v1/auth/public-tokens", json=asked, headers={"authorization": f"Bearer {server.key}"}, trust_env=False
    )
    answer.raise_for_status()
    return f"{page}/#{urlencode({'server': server.url, 'token': answer.json()['token']})}"


if __name__ == "__main__":
    print(address_of_page(sys.argv[1] if len(sys.argv) > 1 else "http://localhost:5173"))
