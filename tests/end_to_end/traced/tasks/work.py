from opentelemetry import trace

from outlast import logger, task


@task(id="parent")
async def parent() -> str:
    with logger.trace("render", pages=3), trace.get_tracer("http").start_as_current_span("GET /pages", attributes={"http.method": "GET"}):
        logger.info("inside")
    return await child.trigger_and_wait().unwrap()


@task(id="child")
async def child() -> str:
    with logger.trace("boom"):
        return "done"
