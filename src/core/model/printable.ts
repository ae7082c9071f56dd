// Texts of peers. A peer chooses them, and they reach terminals and logs, so they are cleaned and cut once, here.
import { utf8 } from './bytes.ts'

/** Bytes (UTF-8) of a text of a peer: the detail of a Reject, the name of its software. */
export const PRINTABLE_BYTES_MAX = 300

/**
 * Makes a peer's text safe to print: removes control and direction characters and cuts it to `bytesMax` bytes of UTF-8,
 * between two characters.
 */
export function printable(text: string, bytesMax: number = PRINTABLE_BYTES_MAX): string {
  const clean = text.slice(0, bytesMax).replaceAll(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, '')
  let [bytes, end] = [0, 0]
  for (const character of clean) {
    bytes += utf8(character).length
    if (bytes > bytesMax) break
    end += character.length
  }
  return clean.slice(0, end)
}
