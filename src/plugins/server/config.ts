import * as v from "valibot";

/** The socket `config default` names, and the suffix of the ttrpc one beside it. */
export const defaultAddress = "/run/containerd/containerd.sock";
export const ttrpcSuffix = ".ttrpc";
export const defaultMessageBytes = 16 << 20;

const count = v.pipe(v.number(), v.safeInteger("integer"), v.minValue(0, "integer of 0 or more"));

export const socketSchema = { address: v.string(), uid: count, gid: count } as const;
export const messageSchema = {
  max_recv_message_size: count,
  max_send_message_size: count,
} as const;

/** Who the daemon runs as owns its sockets, unless configured otherwise. */
export const socketOwner = {
  uid: process.geteuid?.() ?? 0,
  gid: process.getegid?.() ?? 0,
} as const;
