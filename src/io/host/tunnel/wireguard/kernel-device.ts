// Reads a WireGuard device of the kernel over generic netlink, as `wg show <device> dump` does, without a process. The
// numbers are those of linux/wireguard.h and linux/genetlink.h; keys and addresses are bytes, ports of addresses are in
// network byte order, and all else is in the byte order of the machine. The private key and the preshared keys, which the
// kernel tells as well, are not read.
import { bytesToIp, compareCidr, prefixToCidr } from '../../../../core/model/cidr.ts'
import type { Cidr, PeerAddress, WireguardKey } from '../../../../core/model/values.ts'
import { attribute, attributeMap, attributesOf } from '../../kernel/message.ts'
import type { Questions } from '../../kernel/questions.ts'
import type { WgDump, WgPeer } from './wg-dump.ts'

const GENL_ID_CTRL = 16
const CTRL_CMD_GETFAMILY = 3
const CTRL_ATTR_FAMILY_ID = 1
const CTRL_ATTR_FAMILY_NAME = 2
const WG_CMD_GET_DEVICE = 0

const WGDEVICE_A_IFNAME = 2
const WGDEVICE_A_PUBLIC_KEY = 4
const WGDEVICE_A_LISTEN_PORT = 6
const WGDEVICE_A_FWMARK = 7
const WGDEVICE_A_PEERS = 8
const WGPEER_A_PUBLIC_KEY = 1
const WGPEER_A_ENDPOINT = 4
const WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL = 5
const WGPEER_A_LAST_HANDSHAKE_TIME = 6
const WGPEER_A_RX_BYTES = 7
const WGPEER_A_TX_BYTES = 8
const WGPEER_A_ALLOWEDIPS = 9
const WGALLOWEDIP_A_IPADDR = 2
const WGALLOWEDIP_A_CIDR_MASK = 3

const KEY_BYTES = 32
const AF_INET = 2
const AF_INET6 = 10

/**
 * Returns the device. Rejects where the kernel has no WireGuard, no such device, or gives no whole answer. `family`: the
 * number that the kernel has given to WireGuard (readFamily).
 */
export async function readKernelDevice(
  questions: Questions,
  family: number,
  device: string
): Promise<WgDump> {
  const body = Buffer.concat([
    genericHead(WG_CMD_GET_DEVICE),
    attribute(WGDEVICE_A_IFNAME, Buffer.from(`${device}\0`))
  ])
  const parts = await questions.ask({ type: family, body, isList: true }, ({ type, payload }) =>
    type === family ? deviceOf(payload) : undefined
  )
  const [first] = typeof parts === 'number' ? [] : parts
  if (typeof parts === 'number' || first === undefined)
    throw new Error('the kernel did not tell its WireGuard device')
  return { ...first, peers: joined(parts.flatMap(({ peers }) => peers)) }
}

/** Returns the number that this kernel has given to the family `wireguard`. Rejects where it has none. */
export async function readFamily(questions: Questions): Promise<number> {
  const body = Buffer.concat([
    genericHead(CTRL_CMD_GETFAMILY),
    attribute(CTRL_ATTR_FAMILY_NAME, Buffer.from('wireguard\0'))
  ])
  const found = await questions.ask({ type: GENL_ID_CTRL, body, isList: false }, ({ type, payload }) =>
    type === GENL_ID_CTRL
      ? attributeMap(payload.subarray(GENERIC_HEAD_BYTES)).get(CTRL_ATTR_FAMILY_ID)?.readUInt16LE(0)
      : undefined
  )
  const [number] = typeof found === 'number' ? [] : found
  if (number === undefined) throw new Error('this kernel has no WireGuard')
  return number
}

// struct genlmsghdr: command (1), version (1), reserved (2).
const GENERIC_HEAD_BYTES = 4

function genericHead(command: number): Buffer {
  return Buffer.from([command, 1, 0, 0])
}

/** One message of the answer. A device with many peers takes several, each with the fields of the device. */
function deviceOf(payload: Buffer): WgDump {
  const found = attributeMap(payload.subarray(GENERIC_HEAD_BYTES))
  const publicKey = found.get(WGDEVICE_A_PUBLIC_KEY)
  const device = {
    publicKey: publicKey === undefined ? undefined : keyOf(publicKey),
    listenPort: found.get(WGDEVICE_A_LISTEN_PORT)?.readUInt16LE(0) ?? 0,
    fwmark: found.get(WGDEVICE_A_FWMARK)?.readUInt32LE(0) ?? 0,
    peers: [...attributesOf(found.get(WGDEVICE_A_PEERS) ?? Buffer.alloc(0))].map(([, peer]) => peerOf(peer))
  }
  // The message has the private key of the device: it does not stay in the buffer of the socket.
  payload.fill(0)
  return device
}

function peerOf(list: Buffer): WgPeer {
  const found = attributeMap(list)
  const big = (kind: number) => Number(found.get(kind)?.readBigInt64LE(0) ?? 0)
  const ips = [...attributesOf(found.get(WGPEER_A_ALLOWEDIPS) ?? Buffer.alloc(0))]
  return {
    publicKey: keyOf(found.get(WGPEER_A_PUBLIC_KEY) ?? Buffer.alloc(0)),
    peerAddress: addressOf(found.get(WGPEER_A_ENDPOINT)),
    allowedIps: ips.flatMap(([, ip]) => cidrOf(ip) ?? []),
    lastHandshakeSeconds: big(WGPEER_A_LAST_HANDSHAKE_TIME),
    rxBytes: big(WGPEER_A_RX_BYTES),
    txBytes: big(WGPEER_A_TX_BYTES),
    keepaliveSeconds: found.get(WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL)?.readUInt16LE(0) ?? 0
  }
}

/** Joins the parts of peers whose prefixes were too many for one message, and sorts as parseWgDump does. */
function joined(parts: readonly WgPeer[]): readonly WgPeer[] {
  return [...Map.groupBy(parts, ({ publicKey }) => publicKey).values()]
    .flatMap((peer) => {
      const [first] = peer
      return first === undefined
        ? []
        : [{ ...first, allowedIps: peer.flatMap(({ allowedIps }) => allowedIps).sort(compareCidr) }]
    })
    .sort((a, b) => (a.publicKey < b.publicKey ? -1 : 1))
}

function keyOf(bytes: Buffer): WireguardKey {
  if (bytes.length !== KEY_BYTES) throw new Error('the kernel told a WireGuard key of another length')
  return bytes.toString('base64') as WireguardKey
}

function cidrOf(list: Buffer): Cidr | undefined {
  const found = attributeMap(list)
  const address = found.get(WGALLOWEDIP_A_IPADDR)
  const length = found.get(WGALLOWEDIP_A_CIDR_MASK)?.[0]
  return address === undefined || length === undefined ? undefined : prefixToCidr({ address, length })
}

/** Reads struct sockaddr_in or struct sockaddr_in6. */
function addressOf(bytes: Buffer | undefined): PeerAddress | undefined {
  if (bytes === undefined || bytes.length < 8) return undefined
  const family = bytes.readUInt16LE(0)
  const port = bytes.readUInt16BE(2)
  const ip =
    family === AF_INET
      ? bytesToIp(bytes.subarray(4, 8))
      : family === AF_INET6
        ? bytesToIp(bytes.subarray(8, 24))
        : undefined
  // An IPv4-mapped IPv6 address differs from every desired address, as in wg-dump.ts.
  if (ip === undefined) return `[::ffff]:${port}` as PeerAddress
  return (ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`) as PeerAddress
}
