"""Retry policies."""

from __future__ import annotations

from outlast.model.retry import Retry, backoff_ms

__all__ = ["Retry", "backoff_ms"]
