/** One mount call to be made, as the wire carries it; a list of them is made in order, the last on top. */
export interface Mount {
  /** File system type, or `bind`. May carry prefixes of the mount manager (`format/overlay`). */
  readonly type: string;
  readonly source: string;
  /** A directory below the root being assembled; empty for the root itself. */
  readonly target: string;
  /** As in fstab: `ro`, `rbind`, `lowerdir=...`. */
  readonly options: readonly string[];
}
