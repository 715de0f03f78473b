"""`env_vars`: what runs find in their environment, kept sealed by the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from outlast.client import flow as requests
from outlast.client.answers import EnvVar
from outlast.client.calls import call
from outlast.pending import Pending


def list() -> Pending[Sequence[EnvVar]]:
    """All variables of the environment, by name; the values of secrets are not shown."""
    return call("env_vars.list()", requests.list_env_vars())


def retrieve(name: str) -> Pending[EnvVar]:
    """One variable."""
    return call("env_vars.retrieve(…)", requests.retrieve_env_var(name))


def create(name: str, value: str, *, is_secret: bool = False) -> Pending[None]:
    """Set a variable; a secret stays one, and is never shown again. Workers take it when they connect the next time."""
    return call("env_vars.create(…)", requests.create_env_var({"name": name, "value": value, "isSecret": is_secret}))


def update(name: str, value: str) -> Pending[None]:
    """Another value for a variable that is there.

    Raises:
        ApiError: 404 if it is not.
    """
    return call("env_vars.update(…)", requests.update_env_var(name, value))


def delete(name: str) -> Pending[None]:
    """Remove a variable."""
    return call("env_vars.delete(…)", requests.delete_env_var(name))


def upload(variables: Mapping[str, str], *, override: bool = True, is_secret: bool = False) -> Pending[None]:
    """Set many at once, all or none; without `override` those that are there stay as they are."""
    body = {"variables": dict(variables), "override": override, "isSecret": is_secret}
    return call("env_vars.upload(…)", requests.upload_env_vars(body))
