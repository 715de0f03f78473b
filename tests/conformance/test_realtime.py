"""`runs.subscribeTo…`, `streams`, `metadata` and public tokens, as the official client uses them."""

from __future__ import annotations

import uuid
from typing import Any

from tests.conformance.official import Official


def test_a_subscription_sees_every_status_metadata_and_tags_and_ends(official: Official) -> None:
    found = official(
        """
        const handle = await tasks.trigger('progress', 3, { metadata: { plan: 'pro' }, tags: ['watched'] });
        const send = (name) => fetch(`${process.env.TRIGGER_API_URL}/realtime/v1/streams/${handle.id}/input/${name}`, {
          method: 'POST', body: JSON.stringify({ data: 'go' }),
          headers: { authorization: `Bearer ${handle.publicAccessToken}`, 'content-type': 'application/json' },
        });
        const states = [];
        const isNew = (state) => !states.some((s) => s.status === state.status && s.progress === state.progress);
        for await (const run of runs.subscribeToRun(handle.id)) {
          const state = { status: run.status, progress: run.metadata?.progress, tags: run.tags, output: run.output, payload: run.payload };
          if (isNew(state)) {
            if (run.status === 'WAITING') await send('approval');
            if (run.status === 'EXECUTING' && state.progress) await send('seen');
          }
          states.push(state);
          if (run.finishedAt) break;
        }
        return states;
        """
    )
    # after its wait it is queued for a moment, which may be passed over; each of the others was held until it was seen
    statuses = [state["status"] for state in found if state["status"] != "QUEUED"]
    changed = [s for s, before in zip(statuses, [None, *statuses], strict=False) if s != before]
    assert changed[-3:] == ["WAITING", "EXECUTING", "COMPLETED"]
    values = [state["progress"] for state in found if state.get("progress") is not None]
    assert values == sorted(values)
    assert set(values) == {0, 1, 2, 3}
    last = found[-1]
    assert last == {"status": "COMPLETED", "progress": 3, "tags": ["watched", "finished"], "output": {"steps": 3}, "payload": 3}


def test_tags_are_followed_as_runs_come(official: Official) -> None:
    tag = f"tag-{uuid.uuid4()}"
    ended = official(
        """
        const abort = new AbortController();
        const ended = {};
        const following = (async () => {
          for await (const run of runs.subscribeToRunsWithTag([input.tag, 'both'], { createdAt: '1h' })) {
            if (run.isCompleted) ended[run.id] = run.output;
            if (Object.keys(ended).length === 3) break;
          }
        })();
        const handles = [];
        for (let i = 0; i < 3; i++) handles.push(await tasks.trigger('naps', i, { tags: [input.tag, 'both'] }));
        await tasks.trigger('naps', 99, { tags: [input.tag] });
        await following;
        return handles.map((h) => ended[h.id]);
        """,
        tag=tag,
    )
    assert ended == [0, 1, 2]


def test_a_batch_is_followed_to_its_end(official: Official) -> None:
    outputs = official(
        """
        const made = await tasks.batchTrigger('naps', [1, 2, 3].map((payload) => ({ payload })));
        const ended = {};
        for await (const run of runs.subscribeToBatch(made.batchId)) {
          if (run.isCompleted) ended[run.id] = run.output;
          if (Object.keys(ended).length === 3) break;
        }
        return Object.values(ended).sort();
        """
    )
    assert outputs == [1, 2, 3]


def test_columns_are_skipped(official: Official) -> None:
    run = official(
        """
        const handle = await tasks.trigger('echo', { secret: true });
        for await (const run of runs.subscribeToRun(handle.id, { skipColumns: ['payload', 'output'] })) {
          if (run.finishedAt) return { payload: run.payload ?? null, output: run.output ?? null, status: run.status };
        }
        """
    )
    assert run == {"payload": None, "output": None, "status": "COMPLETED"}


def test_a_failed_run_ends_its_subscription_with_its_error(official: Official) -> None:
    run = official(
        """
        const handle = await tasks.trigger('fails', 'x');
        for await (const run of runs.subscribeToRun(handle.id)) if (run.finishedAt) return { status: run.status, error: run.error };
        """
    )
    assert run["status"] == "FAILED"
    assert (run["error"]["name"], run["error"]["message"]) == ("ValueError", "refused: x")


def test_a_cancelled_run_ends_its_subscription(official: Official) -> None:
    status = official(
        """
        const handle = await tasks.trigger('slow', 1);
        let asked = false;
        for await (const run of runs.subscribeToRun(handle.id)) {
          if (!asked) { asked = true; await runs.cancel(handle.id); }
          if (run.finishedAt) return run.status;
        }
        """
    )
    assert status == "CANCELED"


def test_a_stream_is_read_live_and_from_any_part(official: Official) -> None:
    found: dict[str, Any] = official(
        """
        const handle = await tasks.trigger('speaks', 10);
        const send = () => fetch(`${process.env.TRIGGER_API_URL}/realtime/v1/streams/${handle.id}/input/approval`, {
          method: 'POST', body: JSON.stringify({ data: 1 }),
          headers: { authorization: `Bearer ${handle.publicAccessToken}`, 'content-type': 'application/json' },
        });
        const live = [];
        for await (const part of await streams.read(handle.id, 'ai')) {
          live.push(part.n);
          if (live.length === 5) await send();
        }
        const later = [];
        for await (const part of await streams.read(handle.id, 'ai', { startIndex: 7 })) later.push(part.n);
        const defined = [];
        const ai = streams.define({ id: 'ai' });
        for await (const part of await ai.read(handle.id)) defined.push(part.text);
        const plain = [];
        for await (const part of await streams.read(handle.id)) plain.push(part);
        return { live, later, defined, plain };
        """
    )
    assert found["live"] == list(range(10))
    assert found["later"] == [7, 8, 9]
    assert found["defined"] == [f"token {i}" for i in range(10)]
    assert found["plain"] == ["the default stream"]


def test_a_subscription_interleaves_streams(official: Official) -> None:
    found = official(
        """
        const handle = await tasks.trigger('speaks', 6);
        const chunks = [];
        let sent = false;
        let status;
        for await (const part of runs.subscribeToRun(handle.id).withStreams()) {
          if (part.type === 'ai') chunks.push(part.chunk.n);
          if (part.type === 'run') status = part.run.status;
          if (chunks.length === 3 && !sent) {
            sent = true;
            await fetch(`${process.env.TRIGGER_API_URL}/realtime/v1/streams/${handle.id}/input/approval`, {
              method: 'POST', body: JSON.stringify({ data: 1 }),
              headers: { authorization: `Bearer ${handle.publicAccessToken}`, 'content-type': 'application/json' },
            });
          }
          if (chunks.length === 6 && status === 'COMPLETED') break;
        }
        return { chunks, status };
        """
    )
    assert found == {"chunks": [0, 1, 2, 3, 4, 5], "status": "COMPLETED"}


def test_a_value_is_sent_to_a_run_that_waits(official: Official) -> None:
    output = official(
        """
        const handle = await tasks.trigger('asks', {});
        await streams.input({ id: 'approval' }).send(handle.id, { approved: true, by: 'ada' });
        return (await runs.poll(handle.id, { pollIntervalMs: 100 })).output;
        """
    )
    assert output == {"approved": True, "by": "ada"}


def test_metadata_is_read_from_outside(official: Official) -> None:
    found = official(
        """
        const handle = await tasks.trigger('progress', 0, { metadata: { plan: 'pro' } });
        await streams.input({ id: 'approval' }).send(handle.id, 1);
        await runs.poll(handle.id, { pollIntervalMs: 100 });
        return (await runs.retrieve(handle.id)).metadata;
        """
    )
    assert found == {"plan": "pro", "progress": 0}


def test_public_tokens_watch_what_their_scopes_name_and_nothing_else(official: Official) -> None:
    run, other = official("return [await tasks.trigger('echo', 1), await tasks.trigger('echo', 2)];")
    body = """
        return await auth.withAuth({ accessToken: input.token }, async () => {
          for await (const run of runs.subscribeToRun(input.run)) if (run.finishedAt) return run.output;
        });
    """
    assert official(body, token=run["publicAccessToken"], run=run["id"]) == 1
    # the client itself says nothing of a refusal: its subscription stays open and empty
    with official.bearer(run["publicAccessToken"]) as http:
        assert http.get(f"/realtime/v1/runs/{other['id']}?offset=-1").status_code == 403
        assert http.get(f"/realtime/v1/runs/{run['id']}?offset=-1").status_code == 200
