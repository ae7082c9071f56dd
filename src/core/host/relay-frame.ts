// The frames between an agent and the relay of its tunnels (docs/paths.md): one byte of kind, the Ed25519 key of another
// agent (32 bytes), and what the kind carries. They travel in a stream of their own beside the control frames.
//   ask      end → relay   "relay my tunnel with this agent", once a second while the tunnel needs it; nothing more
//   ready    relay → end   "this agent asks for the tunnel with you, too"; the round trip of the whole way, 2 bytes, ms
//   send     end → relay   a datagram for this agent
//   deliver  relay → end   a datagram of this agent; the relay names the agent whose connection brought it
// Invariant: no frame is passed on twice. A relay passes on `send` only, and always as `deliver`, which no agent passes on.
// So there are no loops, however many agents relay.
import { originOf, publicKeyOf } from '../model/identity.ts'
import type { Origin } from '../model/values.ts'
import { DATAGRAM_BYTES_MAX, datagramKind } from './wireguard-datagram.ts'

const KINDS = { ask: 1, ready: 2, send: 3, deliver: 4 } as const
const KEY_BYTES = 32
const HEADER_BYTES = 1 + KEY_BYTES
/** Bytes of the longest frame. */
export const RELAY_FRAME_BYTES_MAX = HEADER_BYTES + DATAGRAM_BYTES_MAX
/** The largest round trip that a frame can name, and the one of a way that was not measured. */
export const COST_MS_MAX = 65_535

/** The key of an agent as text: one character for each byte. It is short to make, since each datagram needs one. */
export type KeyText = string & { readonly __keyText: never }

/** A frame that was read. `other`: the agent that it names. `bytes` of `send` and `deliver` are the whole frame. */
type RelayFrame =
  | { readonly kind: 'ask'; readonly other: KeyText }
  | { readonly kind: 'ready'; readonly other: KeyText; readonly costMs: number }
  | { readonly kind: 'send' | 'deliver'; readonly other: KeyText; readonly datagram: Uint8Array }

/** Reads a frame; undefined when it is none, or its datagram has not the form of WireGuard's. */
export function readRelayFrame(frame: Uint8Array): RelayFrame | undefined {
  if (frame.length < HEADER_BYTES || frame.length > RELAY_FRAME_BYTES_MAX) return undefined
  const other = String.fromCharCode(...frame.subarray(1, HEADER_BYTES)) as KeyText
  const rest = frame.subarray(HEADER_BYTES)
  const kind = frame[0] ?? 0
  switch (kind) {
    case KINDS.ask:
      return rest.length === 0 ? { kind: 'ask', other } : undefined
    case KINDS.ready:
      return rest.length === 2
        ? { kind: 'ready', other, costMs: ((rest[0] ?? 0) << 8) | (rest[1] ?? 0) }
        : undefined
    case KINDS.send:
    case KINDS.deliver:
      return datagramKind(rest) === undefined
        ? undefined
        : { kind: kind === KINDS.send ? 'send' : 'deliver', other, datagram: rest }
    default:
      return undefined
  }
}

export function askFrame(other: KeyText): Uint8Array {
  return framed('ask', other, new Uint8Array())
}

export function readyFrame(other: KeyText, costMs: number): Uint8Array {
  const cost = Math.min(COST_MS_MAX, Math.max(0, Math.round(costMs)))
  return framed('ready', other, Uint8Array.of(cost >> 8, cost & 0xff))
}

export function sendFrame(other: KeyText, datagram: Uint8Array): Uint8Array {
  return framed('send', other, datagram)
}

/** The frame by which a relay passes a datagram on. `from`: the agent whose connection brought it. */
export function deliverFrame(from: KeyText, datagram: Uint8Array): Uint8Array {
  return framed('deliver', from, datagram)
}

/** The key of an agent as text; undefined: its PeerId has no Ed25519 key. */
export function keyTextOf(origin: Origin): KeyText | undefined {
  const key = publicKeyOf(origin)
  return key && (String.fromCharCode(...key) as KeyText)
}

/** The agent of a key. */
export function originOfKeyText(text: KeyText): Origin {
  return originOf(keyOf(text))
}

function keyOf(text: KeyText): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0))
}

function framed(kind: keyof typeof KINDS, other: KeyText, rest: Uint8Array): Uint8Array {
  const frame = new Uint8Array(HEADER_BYTES + rest.length)
  frame[0] = KINDS[kind]
  frame.set(keyOf(other), 1)
  frame.set(rest, HEADER_BYTES)
  return frame
}
