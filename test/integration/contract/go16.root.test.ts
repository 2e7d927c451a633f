import { taskContract } from "./contract.ts";

taskContract({ daemon: "go-1.6", shim: "go-1.6" });
