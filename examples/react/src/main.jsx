import { createRoot } from "react-dom/client";
import { TriggerAuthContext } from "@trigger.dev/react-hooks";
import { App } from "./App.jsx";

// A real page is given both by its backend; here they stand in the address that `python open.py` prints.
const given = new URLSearchParams(location.hash.slice(1));
const auth = { baseURL: given.get("server"), accessToken: given.get("token") };

createRoot(document.getElementById("root")).render(
  <TriggerAuthContext.Provider value={auth}>
    <App />
  </TriggerAuthContext.Provider>,
);
