// Recognises the datagrams of WireGuard by their form (whitepaper, section 5.4). An agent carries nothing else for a member
// (app/paths), so that a member cannot use the carrier for other traffic. What is inside is WireGuard's to verify.

/** `initiation` and `response` make a session, `cookie` answers under load, `data` is a packet or a keepalive. */
type DatagramKind = 'initiation' | 'response' | 'cookie' | 'data'

/** Bytes of the three kinds with a fixed length, and the shortest data: 16 of header and 16 of tag. */
const BYTES = { initiation: 148, response: 92, cookie: 64, data: 32 } as const
const KINDS: readonly (DatagramKind | undefined)[] = [undefined, 'initiation', 'response', 'cookie', 'data']

/** The longest datagram that is carried: the largest MTU that the setting `mtu` allows, with what WireGuard adds. */
export const DATAGRAM_BYTES_MAX = 9_216

/** Returns the kind of a datagram; undefined: WireGuard sends nothing of this form. */
export function datagramKind(bytes: Uint8Array): DatagramKind | undefined {
  // The type is one byte, and three zero bytes follow it.
  if (bytes[1] !== 0 || bytes[2] !== 0 || bytes[3] !== 0) return undefined
  const kind = KINDS[bytes[0] ?? 0]
  if (kind === undefined || bytes.length > DATAGRAM_BYTES_MAX) return undefined
  const isWhole = kind === 'data' ? bytes.length >= BYTES.data : bytes.length === BYTES[kind]
  return isWhole ? kind : undefined
}

/**
 * Returns the number by which the receiver of data knows its session. The receiver has chosen it at random, so only
 * those who see the session's datagrams know it.
 */
export function sessionOf(data: Uint8Array): number {
  return new DataView(data.buffer, data.byteOffset).getUint32(4, true)
}
