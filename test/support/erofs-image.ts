const blockBytes = 4096;
const inodeBytes = 32;
const magic = 0xe0f5e1e2;
const slotBytes = 128;
const incompatible = { chunkedFile: 0x4, deviceTable: 0x8 } as const;
const layout = { plain: 0, chunked: 4 } as const;
const chunkIndexes = 0x20;
const fileType = { regular: 1, directory: 2 } as const;

/**
 * An EROFS image with files in its root, each at most a block long, made by hand: superblock, a
 * block of inodes, one of the root directory, and the data.
 *
 * Those in `outside` have their data in a second image, a block each.
 */
export function erofsImage(
  files: Readonly<Record<string, string>>,
  outside: Readonly<Record<string, string>> = {},
): { readonly image: Buffer; readonly device: Buffer } {
  const within = Object.keys(files);
  const without = Object.keys(outside);
  const names = [...within, ...without];
  // Node 0 is the root; those with chunks have an index behind them, in a node's room of its own.
  const nodeOf = (name: string): number => 1 + 2 * names.indexOf(name);
  const image = Buffer.alloc((3 + within.length) * blockBytes);
  const device = Buffer.alloc(without.length * blockBytes);
  writeSuperblock(image, { inodes: names.length + 1, deviceBlocks: without.length });
  const nodes = image.subarray(blockBytes, 2 * blockBytes);
  const root = directory(names.toSorted().map((name) => [name, nodeOf(name)]));
  root.copy(image, 2 * blockBytes);
  writeInode(nodes, 0, { mode: 0o40755, links: 2, size: root.length, block: 2 });
  for (const [index, name] of within.entries()) {
    const data = Buffer.from(files[name] ?? "");
    data.copy(image, (3 + index) * blockBytes);
    const place = { mode: 0o100644, links: 1, size: data.length, block: 3 + index };
    writeInode(nodes, nodeOf(name), place);
  }
  for (const [index, name] of without.entries()) {
    const data = Buffer.from(outside[name] ?? "");
    data.copy(device, index * blockBytes);
    const node = nodeOf(name);
    writeInode(nodes, node, { mode: 0o100644, links: 1, size: data.length, block: chunkIndexes });
    nodes.writeUInt16LE(layout.chunked << 1, node * inodeBytes);
    const chunk = (node + 1) * inodeBytes;
    nodes.writeUInt16LE(1, chunk + 2);
    nodes.writeUInt32LE(index, chunk + 4);
  }
  return { image, device };
}

function writeSuperblock(
  image: Buffer,
  { inodes, deviceBlocks }: { readonly inodes: number; readonly deviceBlocks: number },
): void {
  const block = image.subarray(1024, 1024 + 128);
  block.writeUInt32LE(magic, 0);
  block.writeUInt8(Math.log2(blockBytes), 12);
  block.writeBigUInt64LE(BigInt(inodes), 16);
  block.writeUInt32LE(image.length / blockBytes, 36);
  block.writeUInt32LE(1, 40);
  if (deviceBlocks === 0) return;
  block.writeUInt32LE(incompatible.chunkedFile | incompatible.deviceTable, 80);
  block.writeUInt16LE(1, 86);
  const slot = 2048;
  block.writeUInt16LE(slot / slotBytes, 88);
  image.writeUInt32LE(deviceBlocks, slot + 64);
}

function writeInode(
  nodes: Buffer,
  node: number,
  inode: {
    readonly mode: number;
    readonly links: number;
    readonly size: number;
    readonly block: number;
  },
): void {
  const at = node * inodeBytes;
  nodes.writeUInt16LE(layout.plain << 1, at);
  nodes.writeUInt16LE(inode.mode, at + 4);
  nodes.writeUInt16LE(inode.links, at + 6);
  nodes.writeUInt32LE(inode.size, at + 8);
  nodes.writeUInt32LE(inode.block, at + 16);
  nodes.writeUInt32LE(node + 1, at + 20);
}

/** Entries in order, then their names. */
function directory(files: readonly (readonly [string, number])[]): Buffer {
  const entries = [
    { name: ".", node: 0, type: fileType.directory },
    { name: "..", node: 0, type: fileType.directory },
    ...files.map(([name, node]) => ({ name, node, type: fileType.regular })),
  ];
  const heads = Buffer.alloc(entries.length * 12);
  let nameAt = heads.length;
  for (const [index, { name, node, type }] of entries.entries()) {
    heads.writeBigUInt64LE(BigInt(node), index * 12);
    heads.writeUInt16LE(nameAt, index * 12 + 8);
    heads.writeUInt8(type, index * 12 + 10);
    nameAt += Buffer.byteLength(name);
  }
  return Buffer.concat([heads, ...entries.map(({ name }) => Buffer.from(name))]);
}
