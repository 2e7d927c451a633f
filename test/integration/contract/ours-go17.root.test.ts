import { taskContract } from "./contract.ts";

taskContract({ daemon: "ours", shim: "go-1.7" });
