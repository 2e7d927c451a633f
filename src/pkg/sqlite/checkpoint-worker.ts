import { DatabaseSync } from "node:sqlite";
import { workerData } from "node:worker_threads";

const db = new DatabaseSync(String(workerData), { timeout: 1000 });
db.exec("PRAGMA synchronous = NORMAL; PRAGMA wal_checkpoint(PASSIVE)");
db.close();
