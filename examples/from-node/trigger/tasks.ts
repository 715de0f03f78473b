// What Python's tasks take and give, for TypeScript. Only types: the code is in tasks/users.py.
import type { Task } from "@trigger.dev/sdk";

export declare const processData: Task<"process-data", { userId: string }, { processed: boolean }>;
export declare const validatedTask: Task<"validated-task", { email: string; age: number }, string>;
