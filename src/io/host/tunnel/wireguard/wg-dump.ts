// Parses `wg show <device> dump` (wg(8)): a line for the device, then a line for each peer, with fields separated by
// tabs. The first field of the device is the private key, and each peer may have a preshared key. parseWgDump returns
// neither and quotes no text in its errors.
import { compareCidr, parseCidr, parseIp } from '../../../../core/model/cidr.ts'
import type { Cidr, PeerAddress, WireguardKey } from '../../../../core/model/values.ts'
import { parseOutput } from '../../errors.ts'

/** The state of a WireGuard device. */
export interface WgDump {
  /** undefined: no private key is set yet. */
  readonly publicKey: WireguardKey | undefined
  /** UDP port. A device that was never up may have 0. */
  readonly listenPort: number
  /** Mark of the encapsulated packets; 0 = off. */
  readonly fwmark: number
  /** Sorted by public key. */
  readonly peers: readonly WgPeer[]
}

/** The state of one peer of the device. */
export interface WgPeer {
  readonly publicKey: WireguardKey
  /** Address that was set or that WireGuard learned last; undefined: neither. */
  readonly peerAddress: PeerAddress | undefined
  /** In the order of compareCidr. */
  readonly allowedIps: readonly Cidr[]
  /** Unix seconds; 0: there was no handshake. */
  readonly lastHandshakeSeconds: number
  readonly rxBytes: number
  readonly txBytes: number
  /** Seconds; 0 = off. */
  readonly keepaliveSeconds: number
}

/** Returns the parsed state. Errors: TOOL_FAILED for text of another form. */
export function parseWgDump(text: string): WgDump {
  return parseOutput('wg', () => parseDevice(text))
}

function parseDevice(text: string): WgDump {
  const [device = '', ...lines] = text.trimEnd().split('\n')
  const [, publicKey, listenPort, fwmark, ...rest] = device.split('\t')
  if (fwmark === undefined || rest.length > 0) throw new Error('wg show dump: unexpected first line')
  return {
    publicKey: publicKey === '(none)' ? undefined : key(publicKey),
    listenPort: number(listenPort),
    fwmark: fwmark === 'off' ? 0 : number(fwmark),
    peers: lines.map(parsePeer).sort((a, b) => (a.publicKey < b.publicKey ? -1 : 1))
  }
}

function parsePeer(line: string): WgPeer {
  const [publicKey, , endpoint, allowedIps = '', handshake, rx, tx, keepalive] = line.split('\t')
  return {
    publicKey: key(publicKey),
    peerAddress: endpoint === '(none)' ? undefined : peerAddress(endpoint),
    allowedIps: allowedIps === '(none)' ? [] : allowedIps.split(',').map(allowedIp).sort(compareCidr),
    lastHandshakeSeconds: number(handshake),
    rxBytes: number(rx),
    txBytes: number(tx),
    keepaliveSeconds: keepalive === 'off' ? 0 : number(keepalive)
  }
}

function key(text: string | undefined): WireguardKey {
  if (!/^[A-Za-z0-9+/]{43}=$/.test(text ?? '')) throw new Error('wg show dump: not a public key')
  return text as WireguardKey
}

/** Parses a prefix of a peer, as WireGuard prints it. Throws an error that quotes no text. */
export function allowedIp(text: string): Cidr {
  const parsed = parseCidr(text)
  if (parsed.kind === 'invalid') throw new Error('WireGuard told an allowed IP that is no prefix')
  return parsed.cidr
}

/** Parses the address of a peer, as WireGuard prints it. */
export function peerAddress(text = ''): PeerAddress {
  const match = /^(?:\[([^\]%]+)(?:%[^\]]+)?\]|([\d.]+)):(\d+)$/.exec(text)
  const ip = parseIp(match?.[1] ?? match?.[2] ?? '')
  // A socket of both families may report an IPv4 peer as IPv4-mapped IPv6. The mesh has no such addresses: the text is
  // kept as it is, and differs from every desired address.
  if (ip === undefined) return text as PeerAddress
  return (ip.includes(':') ? `[${ip}]:${match?.[3]}` : `${ip}:${match?.[3]}`) as PeerAddress
}

function number(text: string | undefined): number {
  const value = Number(text)
  if (text === undefined || text === '' || !Number.isSafeInteger(value))
    throw new Error('wg show dump: not a number')
  return value
}
