import { taskContract } from "./contract.ts";

taskContract({ daemon: "go-2", shim: "ours" });
