// Ids and keys of the trust set as text. Bytes cannot be keys of a Map, and text of lower-case hexadecimal digits has
// the same order as the bytes that it stands for, so an order by id is the same order on every machine.

declare const brand: unique symbol

/** The id of a statement, SHA-256 of its body: 64 hexadecimal digits. */
export type StatementId = string & { readonly [brand]: 'StatementId' }
/** A raw Ed25519 public key (32 bytes): 64 hexadecimal digits. */
export type KeyId = string & { readonly [brand]: 'KeyId' }
/** The first 16 bytes of a statement's id, as the lists `keep` and `keepOnly` hold them: 32 hexadecimal digits. */
export type ShortId = string & { readonly [brand]: 'ShortId' }

/** The number of characters of a ShortId. */
const SHORT_ID_CHARACTERS = 32

/** The id of a statement as text. The caller has checked that there are 32 bytes. */
export function statementId(bytes: Uint8Array): StatementId {
  return hexOf(bytes) as StatementId
}

/** A public key as text. The caller has checked that there are 32 bytes. */
export function keyId(bytes: Uint8Array): KeyId {
  return hexOf(bytes) as KeyId
}

/** The short form of an id. The caller has checked that there are 16 bytes. */
export function shortId(bytes: Uint8Array): ShortId {
  return hexOf(bytes) as ShortId
}

/** The short form of an id that is text already. */
export function shortOf(id: StatementId): ShortId {
  return id.slice(0, SHORT_ID_CHARACTERS) as unknown as ShortId
}

/** The bytes of an id or key. */
export function bytesOf(id: StatementId | KeyId | ShortId): Uint8Array {
  return Uint8Array.from({ length: id.length / 2 }, (_, at) =>
    Number.parseInt(id.slice(2 * at, 2 * at + 2), 16)
  )
}

/** A comparison function for sort(): the order of the bytes that two ids stand for. */
export function compareText(left: string, right: string): number {
  return left === right ? 0 : left < right ? -1 : 1
}

const DIGITS = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'))

function hexOf(bytes: Uint8Array): string {
  let text = ''
  for (const byte of bytes) text += DIGITS[byte]
  return text
}
