// `wg show <device> dump`, parsed. Its first line starts with the private key and each peer may carry a preshared key:
// neither leaves this function.
import { compareCidr, parseCidr, parseIp } from '../../../../core/model/cidr.ts'
import type { Cidr, PeerAddress, WireguardKey } from '../../../../core/model/values.ts'

export interface WgDump {
  /** undefined: no private key was set yet. */
  readonly publicKey: WireguardKey | undefined
  readonly listenPort: number
  /** 0 = off. */
  readonly fwmark: number
  /** In key order. */
  readonly peers: readonly WgPeer[]
}

export interface WgPeer {
  readonly publicKey: WireguardKey
  /** undefined: never set and never learned. */
  readonly peerAddress: PeerAddress | undefined
  /** In compareCidr's order. */
  readonly allowedIps: readonly Cidr[]
  /** Unix seconds; 0: never. */
  readonly lastHandshakeSeconds: number
  readonly rxBytes: number
  readonly txBytes: number
  readonly keepaliveSeconds: number
}

/** Throws on text of another shape, without quoting it. */
export function parseWgDump(text: string): WgDump {
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
    peerAddress: endpoint === '(none)' ? undefined : address(endpoint),
    allowedIps: allowedIps === '(none)' ? [] : allowedIps.split(',').map(cidr).sort(compareCidr),
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

function cidr(text: string): Cidr {
  const parsed = parseCidr(text)
  if (parsed.kind === 'invalid') throw new Error('wg show dump: not an allowed IP')
  return parsed.cidr
}

function address(text = ''): PeerAddress {
  const match = /^(?:\[([^\]%]+)(?:%[^\]]+)?\]|([\d.]+)):(\d+)$/.exec(text)
  const ip = parseIp(match?.[1] ?? match?.[2] ?? '')
  // A socket that listens on both families may report an IPv4 peer as IPv4-mapped: not a name that the mesh uses.
  if (ip === undefined) return text as PeerAddress
  return (ip.includes(':') ? `[${ip}]:${match?.[3]}` : `${ip}:${match?.[3]}`) as PeerAddress
}

function number(text: string | undefined): number {
  const value = Number(text)
  if (text === undefined || text === '' || !Number.isSafeInteger(value))
    throw new Error('wg show dump: not a number')
  return value
}
