import { invalidArgument } from "#pkg/errors.ts";

const maxLength = 76;
const form = /^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$/;

/**
 * Refuses what upstream refuses as the name of a namespace, container, task or exec.
 *
 * Throws `invalid-argument`, naming the value, when it is empty, longer than 76 characters, or not made of
 * alphanumeric runs joined by single `.`, `_` or `-`.
 */
export function assertIdentifier(value: string): void {
  if (value === "") throw invalidArgument("identifier must not be empty");
  if (value.length > maxLength) {
    throw invalidArgument(
      `identifier ${JSON.stringify(value)} greater than maximum length (${maxLength} characters)`,
    );
  }
  if (!form.test(value)) {
    throw invalidArgument(`identifier ${JSON.stringify(value)} must match ${form.source}`);
  }
}

export function isIdentifier(value: string): boolean {
  return value.length <= maxLength && form.test(value);
}
