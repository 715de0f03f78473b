"""The tasks that benchmarks run."""

from outlast import task


@task(id="bench.run.noop")
async def noop(payload):
    return None
