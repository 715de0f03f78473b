"""The endpoints of schedules, bulk actions, variables, alerts and pausing, as requests and the reading of their answers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from outlast.client.answers import AlertChannel, AlertDelivery, BulkAction, EnvVar, Page, ScheduleState, Tick
from outlast.client.requests import Headers, Request


def _decode(content: bytes) -> Any:
    return msgspec.json.decode(content)


def _id(content: bytes, _: Headers) -> str:
    return _decode(content)["id"]


def start_bulk(body: dict[str, Any]) -> Request[str]:
    return Request("POST", "/api/v1/bulk-actions", _id, json=body)


def retrieve_bulk(action: str, wait_seconds: int) -> Request[BulkAction]:
    path, query = f"/api/v1/bulk-actions/{quote(action, safe='')}", {"wait": str(wait_seconds)} if wait_seconds else None
    return Request("GET", path, lambda c, _: msgspec.json.decode(c, type=BulkAction), query=query)


def act_on_bulk(action: str, base: str, verb: str) -> Request[str]:
    return Request("POST", f"{base}/bulk-actions/{quote(action, safe='')}/{verb}", _id)


def list_bulk(cursor: str | None, page_size: int) -> Request[Page[BulkAction]]:
    def parse(content: bytes, _: Headers) -> Page[BulkAction]:
        answer = _decode(content)
        return Page(msgspec.convert(answer["data"], list[BulkAction]), answer["pagination"].get("next"))

    query = {"page[size]": str(page_size), **({"page[after]": cursor} if cursor else {})}
    return Request("GET", "/api/v1/bulk-actions", parse, query=query)


_SCHEDULES = "/api/v1/schedules"
_OWN_SCHEDULES = "/api/outlast/v1/schedules"


def _schedule(content: bytes, _: Headers) -> ScheduleState:
    return msgspec.json.decode(content, type=ScheduleState)


def create_schedule(body: dict[str, Any]) -> Request[ScheduleState]:
    return Request("POST", _SCHEDULES, _schedule, json=body)


def update_schedule(schedule: str, body: dict[str, Any]) -> Request[ScheduleState]:
    return Request("PUT", f"{_SCHEDULES}/{quote(schedule, safe='')}", _schedule, json=body)


def retrieve_schedule(schedule: str) -> Request[ScheduleState]:
    return Request("GET", f"{_SCHEDULES}/{quote(schedule, safe='')}", _schedule)


def list_schedules(page: int, page_size: int) -> Request[Page[ScheduleState]]:
    def parse(content: bytes, _: Headers) -> Page[ScheduleState]:
        answer = _decode(content)
        more = answer["pagination"]["currentPage"] < answer["pagination"]["totalPages"]
        return Page(msgspec.convert(answer["data"], list[ScheduleState]), str(page + 1) if more else None)

    return Request("GET", _SCHEDULES, parse, query={"page": str(page), "perPage": str(page_size)})


def activate_schedule(schedule: str, verb: Literal["activate", "deactivate"], body: dict[str, Any]) -> Request[ScheduleState]:
    return Request("POST", f"{_SCHEDULES}/{quote(schedule, safe='')}/{verb}", _schedule, json=body)


def delete_schedule(schedule: str) -> Request[str]:
    return Request("DELETE", f"{_SCHEDULES}/{quote(schedule, safe='')}", _id)


def timezones(exclude_utc: bool) -> Request[Sequence[str]]:
    query = {"excludeUtc": "true"} if exclude_utc else None
    return Request("GET", "/api/v1/timezones", lambda c, _: _decode(c)["timezones"], query=query)


def schedule_ticks(schedule: str, limit: int) -> Request[Sequence[Tick]]:
    path = f"{_OWN_SCHEDULES}/{quote(schedule, safe='')}/ticks"
    return Request("GET", path, lambda c, _: msgspec.convert(_decode(c)["data"], list[Tick]), query={"limit": str(limit)})


def schedule_upcoming(schedule: str, count: int) -> Request[Sequence[datetime]]:
    path = f"{_OWN_SCHEDULES}/{quote(schedule, safe='')}/upcoming"
    return Request(
        "GET", path, lambda c, _: [msgspec.convert(row["timestamp"], datetime) for row in _decode(c)["data"]], query={"count": str(count)}
    )


def backfill_schedule(schedule: str, start: datetime, end: datetime) -> Request[int]:
    path = f"{_OWN_SCHEDULES}/{quote(schedule, safe='')}/backfill"
    return Request("POST", path, lambda c, _: _decode(c)["count"], json={"from": start.isoformat(), "to": end.isoformat()})


_ENV_VARS = "/api/v1/projects/default/envvars/current"


def list_env_vars() -> Request[Sequence[EnvVar]]:
    return Request("GET", _ENV_VARS, lambda c, _: msgspec.json.decode(c, type=list[EnvVar]))


def retrieve_env_var(name: str) -> Request[EnvVar]:
    return Request("GET", f"{_ENV_VARS}/{quote(name, safe='')}", lambda c, _: msgspec.json.decode(c, type=EnvVar))


def create_env_var(body: dict[str, Any]) -> Request[None]:
    return Request("POST", _ENV_VARS, lambda c, _: None, json=body)


def update_env_var(name: str, value: str) -> Request[None]:
    return Request("PUT", f"{_ENV_VARS}/{quote(name, safe='')}", lambda c, _: None, json={"value": value})


def delete_env_var(name: str) -> Request[None]:
    return Request("DELETE", f"{_ENV_VARS}/{quote(name, safe='')}", lambda c, _: None)


def upload_env_vars(body: dict[str, Any]) -> Request[None]:
    return Request("POST", f"{_ENV_VARS}/import", lambda c, _: None, json=body)


_ALERTS = "/api/outlast/v1/alerts"


def create_alert(body: dict[str, Any]) -> Request[AlertChannel]:
    return Request("POST", _ALERTS, lambda c, _: msgspec.json.decode(c, type=AlertChannel), json=body)


def list_alerts() -> Request[Sequence[AlertChannel]]:
    return Request("GET", _ALERTS, lambda c, _: msgspec.convert(_decode(c)["data"], list[AlertChannel]))


def retrieve_alert(channel: str) -> Request[AlertChannel]:
    return Request("GET", f"{_ALERTS}/{quote(channel, safe='')}", lambda c, _: msgspec.json.decode(c, type=AlertChannel))


def update_alert(channel: str, body: dict[str, Any]) -> Request[AlertChannel]:
    return Request("PUT", f"{_ALERTS}/{quote(channel, safe='')}", lambda c, _: msgspec.json.decode(c, type=AlertChannel), json=body)


def delete_alert(channel: str) -> Request[str]:
    return Request("DELETE", f"{_ALERTS}/{quote(channel, safe='')}", _id)


def alert_deliveries(channel: str) -> Request[Sequence[AlertDelivery]]:
    path = f"{_ALERTS}/{quote(channel, safe='')}/deliveries"
    return Request("GET", path, lambda c, _: msgspec.convert(_decode(c)["data"], list[AlertDelivery]))


def pause_environment(verb: Literal["pause", "resume"]) -> Request[None]:
    return Request("POST", f"/api/v1/projects/default/current/{verb}", lambda c, _: None)
