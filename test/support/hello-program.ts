/**
 * A static Linux program that prints a text and exits 0, for images that need no more: one ELF header, one segment
 * and two system calls, in the machine code of this processor.
 */
export function helloProgram(text: string, arch: string = process.arch): Buffer {
  const message = Buffer.from(text);
  const code = arch === "arm64" ? arm64(message.length) : x64(message.length);
  return program(Buffer.concat([code, message]), arch);
}

/** As that, but it does nothing for ever: what holds a pod's namespaces. */
export function pauseProgram(arch: string = process.arch): Buffer {
  if (arch !== "arm64") {
    // mov eax, 34; syscall; jmp to the beginning: pause()
    return program(Buffer.from("b8220000000f05ebf7", "hex"), arch);
  }
  // ppoll(0, 0, 0, 0) and again
  return program(
    wordsOf([
      0xd2800000, // mov x0, #0
      0xd2800001, // mov x1, #0
      0xd2800002, // mov x2, #0
      0xd2800003, // mov x3, #0
      0xd2800928, // mov x8, #73
      0xd4000001, // svc #0
      0x17fffffa, // b to the beginning
    ]),
    arch,
  );
}

function program(code: Buffer, arch: string): Buffer {
  const size = headersSize + code.length;
  const file = Buffer.alloc(headersSize);
  file.write("\x7fELF\x02\x01\x01", 0, "latin1");
  file.writeUInt16LE(2, 16); // executable
  file.writeUInt16LE(arch === "arm64" ? 183 : 62, 18);
  file.writeUInt32LE(1, 20);
  file.writeBigUInt64LE(base + BigInt(headersSize), 24);
  file.writeBigUInt64LE(64n, 32); // the program header follows
  file.writeUInt16LE(64, 52);
  file.writeUInt16LE(56, 54);
  file.writeUInt16LE(1, 56);
  file.writeUInt32LE(1, 64); // loaded
  file.writeUInt32LE(5, 68); // read and execute
  file.writeBigUInt64LE(base, 80);
  file.writeBigUInt64LE(base, 88);
  file.writeBigUInt64LE(BigInt(size), 96);
  file.writeBigUInt64LE(BigInt(size), 104);
  file.writeBigUInt64LE(0x1000n, 112);
  return Buffer.concat([file, code]);
}

const base = 0x400000n;
const headersSize = 64 + 56;

/** write(1, message, length); exit(0) */
function x64(length: number): Buffer {
  const code = Buffer.from(
    "b801000000" + // mov eax, 1
      "bf01000000" + // mov edi, 1
      "be00000000" + // mov esi, message
      "ba00000000" + // mov edx, length
      "0f05" + // syscall
      "b83c000000" + // mov eax, 60
      "31ff" + // xor edi, edi
      "0f05", // syscall
    "hex",
  );
  code.writeUInt32LE(Number(base) + headersSize + code.length, 11);
  code.writeUInt32LE(length, 16);
  return code;
}

function arm64(length: number): Buffer {
  const count = 8;
  const words = [
    0xd2800020, // mov x0, #1
    0x10000001 | ((count - 1) << 5), // adr x1, message: it follows the code, seven words on from here
    0xd2800002 | (length << 5), // mov x2, #length
    0xd2800808, // mov x8, #64
    0xd4000001, // svc #0
    0xd2800000, // mov x0, #0
    0xd2800ba8, // mov x8, #93
    0xd4000001, // svc #0
  ];
  return wordsOf(words);
}

function wordsOf(words: readonly number[]): Buffer {
  const code = Buffer.alloc(words.length * 4);
  for (const [i, word] of words.entries()) code.writeUInt32LE(word >>> 0, i * 4);
  return code;
}
