/**
 * Whether a name matches a shell's pattern, as Go's `path.Match` has it: `*` and `?` stand for no
 * slash, `[a-z]` and `[^a-z]` for one character, a backslash takes the next one literally. What is
 * no pattern matches nothing.
 *
 * Takes time in proportion to the product of both lengths, whatever they hold.
 */
export function matchesPattern(pattern: string, name: string): boolean {
  const parts = parse(pattern);
  if (!parts) return false;
  const chars = Array.from(name);
  // Which places of the name the parts so far can lead to.
  let reached = [true, ...chars.map(() => false)];
  for (const part of parts) {
    const next = reached.map(() => false);
    for (let at = 0; at <= chars.length; at++) {
      if (part !== "*") next[at] = at > 0 && reached[at - 1] === true && part(chars[at - 1]);
      else next[at] = reached[at] === true || (next[at - 1] === true && chars[at - 1] !== "/");
    }
    reached = next;
  }
  return reached[chars.length] === true;
}

type Part = "*" | ((char: string | undefined) => boolean);

function parse(pattern: string): readonly Part[] | undefined {
  const chars = Array.from(pattern);
  const parts: Part[] = [];
  for (let i = 0; i < chars.length; i++) {
    const char = chars[i];
    if (char === "*") {
      if (parts.at(-1) !== "*") parts.push("*");
    } else if (char === "?") {
      parts.push((given) => given !== undefined && given !== "/");
    } else if (char === "[") {
      const found = parseClass(chars, i + 1);
      if (!found) return undefined;
      parts.push(found.part);
      i = found.end;
    } else {
      if (char === "\\") i++;
      const literal = chars[i];
      if (literal === undefined) return undefined;
      parts.push((given) => given === literal);
    }
  }
  return parts;
}

/** From behind the bracket; `end` is the place of the one that closes it. */
function parseClass(
  chars: readonly string[],
  start: number,
): { readonly part: Part; readonly end: number } | undefined {
  const isNegated = chars[start] === "^";
  const ranges: (readonly [string, string])[] = [];
  let i = isNegated ? start + 1 : start;
  const next = (): string | undefined => {
    if (chars[i] === "\\") i++;
    return chars[i++];
  };
  while (chars[i] !== "]" || ranges.length === 0) {
    if (chars[i] === "-" || chars[i] === "]") return undefined;
    const low = next();
    if (low === undefined) return undefined;
    let high: string | undefined = low;
    if (chars[i] === "-") {
      i++;
      if (chars[i] === "]" || chars[i] === "-") return undefined;
      high = next();
    }
    if (high === undefined) return undefined;
    ranges.push([low, high]);
  }
  const has = (char: string): boolean => ranges.some(([low, high]) => low <= char && char <= high);
  // Go's class takes a slash, unlike its star.
  const part: Part = (char) => char !== undefined && has(char) !== isNegated;
  return { part, end: i };
}
