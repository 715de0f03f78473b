import { useState } from "react";
import { useRealtimeRun, useRealtimeStream, useTaskTrigger, useWaitToken } from "@trigger.dev/react-hooks";

export function App() {
  const [topic, setTopic] = useState("a lighthouse");
  const { submit, handle, isLoading, error } = useTaskTrigger("tell-story");
  return (
    <>
      <h1>A story, told by a Python task</h1>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          submit({ topic });
        }}
      >
        <label>
          About <input name="topic" value={topic} onChange={(event) => setTopic(event.target.value)} />
        </label>
        <button disabled={isLoading || handle !== undefined}>Tell</button>
      </form>
      {error && <p role="alert">{error.message}</p>}
      {handle && <Story runId={handle.id} accessToken={handle.publicAccessToken} />}
    </>
  );
}

function Story({ runId, accessToken }) {
  const [states, setStates] = useState([]);
  const { run, error } = useRealtimeRun(runId, { accessToken });
  const { parts, error: broken } = useRealtimeStream(runId, "story", { accessToken });
  if (run && states.at(-1) !== run.status) setStates([...states, run.status]);
  const approval = run?.metadata?.approval;
  return (
    <section>
      <p>
        Status: <output id="status">{run?.status}</output> <progress value={run?.metadata?.progress ?? 0} max="1" />
      </p>
      <p id="states">{states.join(" → ")}</p>
      <blockquote>{parts.join("")}</blockquote>
      {approval && !run.finishedAt && <Approve id={approval.id} accessToken={approval.token} />}
      {run?.output && <p id="output">Published: {run.output.words} words</p>}
      {(error ?? broken) && <p role="alert">{(error ?? broken).message}</p>}
    </section>
  );
}

function Approve({ id, accessToken }) {
  const { complete, isCompleted, error } = useWaitToken(id, { accessToken });
  return (
    <>
      <button disabled={isCompleted} onClick={() => complete({ approved: true })}>
        Approve
      </button>
      {error && <p role="alert">{error.message}</p>}
    </>
  );
}
