// Byte strings as values.

export function equalBytes(left: Uint8Array, right: Uint8Array): boolean {
  return left.length === right.length && left.every((byte, index) => byte === right[index])
}

/** Lexicographic, a prefix first; for sort(). */
export function compareBytes(left: Uint8Array, right: Uint8Array): number {
  const shared = Math.min(left.length, right.length)
  for (let index = 0; index < shared; index++) {
    const difference = (left[index] ?? 0) - (right[index] ?? 0)
    if (difference !== 0) return difference
  }
  return left.length - right.length
}

/** For map keys. */
export function bytesKey(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes)
}

export function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}
