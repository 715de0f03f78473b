"""A new key for what is sealed in the database. Servers may be running; a crash at any point loses nothing."""

from __future__ import annotations

import secrets
from pathlib import Path

from outlast.server.alerts.alerts import purpose
from outlast.server.api.env_vars import purpose_of
from outlast.server.vault import KEY_BYTES, Vault, load_keys, save_keys
from outlast.store import alerts, env_vars
from outlast.store.database import Connection, Database


def rotate(database: Database, data: Path, setting: str | None) -> int:
    """Seal everything with a new key, or with the first of the setting's; how many values that were.

    The file keeps the key from before: a server may have been sealing with it at this moment. The next rotation drops it.

    Raises:
        DatabaseUnusable: a value was sealed with a key that is not there.
    """
    keys = load_keys(data, setting)
    if setting is None:
        keys = [secrets.token_bytes(KEY_BYTES), *keys]
        save_keys(data, keys)  # all of them until everything is sealed anew
    vault = Vault(*keys)
    with database.transaction() as tx:
        done = _reseal(tx, vault)
    if setting is None:
        save_keys(data, keys[:2])
    return done


def _reseal(tx: Connection, vault: Vault) -> int:
    done = 0
    for env_id, name, sealed in env_vars.all_sealed(tx):
        about = purpose_of(env_id, name)
        env_vars.reseal(tx, env_id, name, vault.seal(about, vault.open(about, sealed)))
        done += 1
    for channel in alerts.listed(tx, lock=True):
        about = purpose(channel.id)
        alerts.reseal(tx, channel.id, vault.seal(about, vault.open(about, channel.secret)))
        done += 1
    return done
