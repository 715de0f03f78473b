import { idempotencyKeys, runs, tasks } from "@trigger.dev/sdk"
import type { processData, validatedTask } from "./trigger/tasks"

const handle = await tasks.trigger<typeof processData>("process-data", {
  userId: "123",
})
const run = await runs.poll(handle, { pollIntervalMs: 200 })
console.log("output", run.output.processed)

// the same key makes the same run, however often a network fails in between
const key = await idempotencyKeys.create(["welcome", "123"], { scope: "global" })
const first = await tasks.trigger<typeof processData>("process-data", { userId: "123" }, { idempotencyKey: key })
const again = await tasks.trigger<typeof processData>("process-data", { userId: "123" }, { idempotencyKey: key })
console.log("same run", first.id === again.id)

const batch = await tasks.batchTrigger<typeof validatedTask>("validated-task", [
  { payload: { email: "ada@example.com", age: 36 } },
  { payload: { email: "nobody", age: -1 } },
])
console.log("batch", batch.runCount)

for await (const found of runs.list({ taskIdentifier: ["validated-task"], limit: 10 })) {
  const done = await runs.poll(found.id, { pollIntervalMs: 200 })
  console.log(done.status, done.output ?? done.error?.name)
}
