import { mkdir, readdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { run, runOk } from "#test/support/command.ts";
import { processInfo, until } from "#test/support/processes.ts";
import type { Room } from "#test/support/room.ts";

const diskBytes = 96 << 20;
// The kernel writes by itself only what nobody synced for longer than a test takes.
const mountOptions = "loop,commit=3600,nodiscard";
const systemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/**
 * Disks that a power cut can be played on: ext4, each on a loop device whose file is all that survives.
 *
 * What was synced is in the file; what was only written is in the kernel's memory, and a copy of the
 * file does not have it. Copied while everyone who writes is stopped, it is the disk as a power cut
 * at that moment leaves it. Several disks tell syncs apart: that of one store must not be what saves
 * another.
 */
export class PowerCutDisks {
  readonly #images: ReadonlyMap<string, string>;

  private constructor(images: ReadonlyMap<string, string>) {
    this.#images = images;
  }

  /** Mounts a new disk at each folder, unmounted with the room. */
  static async mount(room: Room, dirs: readonly string[]): Promise<PowerCutDisks> {
    // In memory, where it takes no time to sync the file itself.
    const memory = join(room.dir, "disks");
    await mkdir(memory);
    await runOk(["mount", "-t", "tmpfs", "tmpfs", memory]);
    room.resources.defer(async () => void (await runOk(["umount", memory])));
    for (const [i, dir] of dirs.entries()) {
      const image = join(memory, String(i));
      await runOk(["truncate", "-s", String(diskBytes), image]);
      await runOk(["mkfs.ext4", "-q", "-E", "nodiscard", image], { env: { PATH: systemPath } });
      await mkdir(dir, { recursive: true });
      await mountImage(image, dir);
      room.resources.defer(async () => void (await runOk(["umount", dir])));
    }
    return new PowerCutDisks(new Map(dirs.map((dir, i) => [dir, join(memory, String(i))])));
  }

  /** Cuts the power: `writer` is stopped, then `end` ends it, and the disks are mounted as they were at the stop. */
  async cut(writer: number, end: () => Promise<void>): Promise<void> {
    process.kill(writer, "SIGSTOP");
    // A thread that is in the kernel stops when its call has ended.
    await until("no call of the writer is under way", () => standsStill(writer));
    await Promise.all([...this.#images.values()].map(copy));
    await end();
    for (const [dir, image] of this.#images) {
      await runOk(["umount", dir]);
      await rename(`${image}.left`, image);
      await mountImage(image, dir);
    }
  }
}

/**
 * The copy of one moment. The kernel may write to it meanwhile, where somebody on this machine syncs all file systems:
 * a copy that is half of before and half of after is a disk that never was.
 */
async function copy(image: string): Promise<void> {
  for (;;) {
    await runOk(["cp", "--sparse=always", image, `${image}.left`]);
    if ((await run(["cmp", "--silent", image, `${image}.left`])).code === 0) return;
  }
}

async function mountImage(image: string, dir: string): Promise<void> {
  await runOk(["mount", "-t", "ext4", "-o", mountOptions, image, dir]);
}

async function standsStill(pid: number): Promise<boolean> {
  const threads = await readdir(`/proc/${pid}/task`);
  const infos = await Promise.all(threads.map((thread) => processInfo(Number(thread))));
  return infos.every((info) => info?.state === "T");
}
