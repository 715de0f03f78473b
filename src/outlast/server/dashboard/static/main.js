// Starts everything. No build, no dependencies: what a browser loads is what stands here.
import "./acts.js";
import "./keys.js";
import "./elements.js";
import "./trace.js";
import { live } from "./kernel.js";

live();
