"""Texts without the passwords in their URIs."""

from __future__ import annotations

import re


def redacted(uri: str) -> str:
    """Return the text with the passwords in its URIs hidden.

    >>> redacted("--tracking-uri=http://anna:secret@host:5000/x")
    '--tracking-uri=http://anna:***@host:5000/x'
    """
    text = re.sub(r"(://[^:/@\s]*):[^/\s]+@", r"\1:***@", uri)
    return re.sub(r"(?i)([?&](?:password|passwd|pwd|token|secret)=)[^&\s'\"]+", r"\1***", text)
