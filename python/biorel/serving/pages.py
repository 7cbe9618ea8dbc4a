"""The pages: static files of the package that load nothing from elsewhere."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from pathlib import Path

from fastapi import Response


@functools.cache
def _page(name: str) -> tuple[str, str]:
    """A page and its content security policy, which allows only the page's own scripts and styles, by their hashes."""
    text = (Path(__file__).parent / name).read_text(encoding="utf-8")

    def hashes(tag: str) -> str:
        parts = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digests = (base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in parts)
        return " ".join(f"'sha256-{digest}'" for digest in digests)

    rules = f"default-src 'none'; connect-src 'self'; img-src data:; script-src {hashes('script')}"
    rules += f"; style-src {hashes('style')}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return text, rules


def page_response(name: str) -> Response:
    """The response with a page of the package."""
    text, rules = _page(name)
    headers = {"Content-Security-Policy": rules, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
    return Response(text, media_type="text/html; charset=utf-8", headers=headers)
