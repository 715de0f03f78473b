// Runs bodies of JavaScript with the SDK's names in scope, one JSON line in, one out: a process start costs more than most tests.
import { createInterface } from "node:readline";

const sdk = await import(process.argv[2]);
const AsyncFunction = (async () => {}).constructor;
console.log = console.info = console.debug = (...args) => console.error(...args); // stdout is for answers only

const explain = (error) => ({
  name: error?.name,
  message: String(error?.message ?? error),
  status: error?.status,
  kind: error?.constructor?.name,
  stack: String(error?.stack ?? ""),
});

async function answer(line) {
  const { id, body, input } = JSON.parse(line);
  try {
    const scope = { ...sdk, sdk, input, explain };
    const value = await new AsyncFunction(...Object.keys(scope), body)(...Object.values(scope));
    return { id, value: value === undefined ? null : value };
  } catch (error) {
    return { id, error: explain(error) };
  }
}

process.on("unhandledRejection", (error) => console.error("unhandled rejection", error)); // of an abandoned subscription
process.stdout.write(JSON.stringify({ id: 0, value: Object.keys(sdk) }) + "\n");
for await (const line of createInterface({ input: process.stdin })) {
  answer(line).then((done) => process.stdout.write(JSON.stringify(done) + "\n"));
}
process.exit(0);
