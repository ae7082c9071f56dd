// The packet of a probe, for the prober (probe.ts), which measures all the time, and for `meshctl ping` (ping.ts).
// Layout: "rzp1" | 1 byte kind (0 request, 1 reply) | 8 random bytes (nonce) | 1 byte said | padding.
// Kind 2 has no reply: "rzp1" | 2 | the address of the receiver's WireGuard, as the sender sees it ("203.0.113.7:51820").
// An agent that does not know it ignores it.
// The byte `said` is part of the padding for an agent that does not know it. It is 1 when the sender of a request has moved
// from the gateway that gets it (core/host/hand-over.ts); else it is 0 or left out.
import { randomBytes } from 'node:crypto'
import { parseIp } from '../../core/model/cidr.ts'
import { hostOfPeerAddress } from '../../core/model/outer-address.ts'
import type { Ip, PeerAddress } from '../../core/model/values.ts'

const MAGIC = Buffer.from('rzp1')
/** Bytes of a packet without padding. */
const PACKET_BYTES = MAGIC.length + 1 + 8
// Most bytes of a probe: the MTU of a jumbo frame, which is the largest that a tunnel is given. Longer packets are
// ignored.
const PACKET_BYTES_MAX = 9000
/** Where the byte `said` is. */
const SAID_AT = PACKET_BYTES
const HAS_MOVED = 1
const KINDS = { request: 0, reply: 1, seen: 2 } as const
/** The longest text of an address with its port. */
const ADDRESS_BYTES_MAX = 64

/**
 * Returns a request of `bytes` bytes, at least PACKET_BYTES, with the nonce in hex that its reply repeats. `hasMoved`: it says
 * that this host has moved, and has one byte more at least.
 */
export function newRequest(
  bytes: number,
  { hasMoved = false } = {}
): { readonly packet: Buffer; readonly nonce: string } {
  const nonce = randomBytes(8)
  const packet = Buffer.alloc(Math.max(PACKET_BYTES + (hasMoved ? 1 : 0), bytes))
  Buffer.concat([MAGIC, Buffer.of(KINDS.request), nonce]).copy(packet)
  if (hasMoved) packet[SAID_AT] = HAS_MOVED
  return { packet, nonce: nonce.toString('hex') }
}

/** Whether a request says that its sender has moved. */
export function saysMoved(request: Buffer): boolean {
  return request[SAID_AT] === HAS_MOVED
}

/** Returns the reply to a request, as long as the request; undefined: the packet is no request. */
export function replyTo(packet: Buffer): Buffer | undefined {
  if (!isOfKind(packet, KINDS.request)) return undefined
  const reply = Buffer.from(packet)
  reply[MAGIC.length] = KINDS.reply
  return reply
}

/** Returns the nonce of a reply in hex; undefined: the packet is no reply. */
export function nonceOfReply(packet: Buffer): string | undefined {
  return isOfKind(packet, KINDS.reply) ? packet.toString('hex', MAGIC.length + 1, PACKET_BYTES) : undefined
}

/** Returns the packet that tells the receiver from where its packets come. */
export function seenPacket(address: PeerAddress): Buffer {
  return Buffer.concat([MAGIC, Buffer.of(KINDS.seen), Buffer.from(address, 'latin1')])
}

/** Returns the address that such a packet tells; undefined: it is none, or the address is not one. */
export function seenIn(packet: Buffer): PeerAddress | undefined {
  const head = MAGIC.length + 1
  if (!packet.subarray(0, MAGIC.length).equals(MAGIC) || packet[MAGIC.length] !== KINDS.seen) return undefined
  if (packet.length > head + ADDRESS_BYTES_MAX) return undefined
  const text = packet.toString('latin1', head)
  const ip = parseIp(hostOfPeerAddress(text))
  const port = Number(/:(\d{1,5})$/.exec(text)?.[1])
  if (ip === undefined || !(port >= 1 && port <= 65_535)) return undefined
  return (ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`) as PeerAddress
}

function isOfKind(packet: Buffer, kind: (typeof KINDS)[keyof typeof KINDS]): boolean {
  return (
    packet.length >= PACKET_BYTES &&
    packet.length <= PACKET_BYTES_MAX &&
    packet.subarray(0, MAGIC.length).equals(MAGIC) &&
    packet[MAGIC.length] === kind
  )
}

/** The family of an address, as dgram names its sockets. */
export function socketType(address: Ip): 'udp4' | 'udp6' {
  return address.includes(':') ? 'udp6' : 'udp4'
}
