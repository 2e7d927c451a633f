import type { ByteString } from "#pkg/archive/tar-entry.ts";
import type { Path } from "#pkg/sys/syscall.ts";

/**
 * The path below the root that an archive's name stands for: no leading or trailing slash, no `.`,
 * no `..`; empty for the root itself. What would climb out stays at the root, as `..` of `/` does.
 */
export function cleanPath(name: ByteString): ByteString {
  if (!needsCleaning.test(name)) return name;
  const parts: string[] = [];
  for (const part of name.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return parts.join("/");
}

const needsCleaning = /^\/|\/$|\/\/|(?:^|\/)\.{1,2}(?:\/|$)/;

export function parentPath(path: ByteString): ByteString {
  const slash = path.lastIndexOf("/");
  return slash < 0 ? "" : path.slice(0, slash);
}

export function basePath(path: ByteString): ByteString {
  return path.slice(path.lastIndexOf("/") + 1);
}

export function joinPath(parent: ByteString, name: ByteString): ByteString {
  return parent === "" ? name : `${parent}/${name}`;
}

/** The bytes for the kernel. ASCII stays a string, which is cheaper to pass. */
export function kernelPath(path: ByteString): Path {
  return notAscii.test(path) ? Buffer.from(path, "latin1") : path;
}

const notAscii = /[\u0080-\u00ff]/;
