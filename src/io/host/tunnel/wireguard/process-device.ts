// Reads the device of wireguard-go through its socket (https://www.wireguard.com/xplatform/, "get=1"), as
// `wg show <device> dump` does, without a process. Keys are in hexadecimal there. The private key is used for the public
// key alone, which the socket does not tell.
import { connect } from 'node:net'
import { createPrivateKey, createPublicKey } from 'node:crypto'
import { compareCidr } from '../../../../core/model/cidr.ts'
import type { WireguardKey } from '../../../../core/model/values.ts'
import { allowedIp, peerAddress, type WgDump, type WgPeer } from './wg-dump.ts'

// wireguard-go answers within milliseconds.
const DEADLINE_MS = 1_000
// 10,000 peers with 100 prefixes each are below.
const ANSWER_BYTES_MAX = 64 << 20

/** Returns the device behind the socket. Rejects where the socket gives no whole answer within 1 s. */
export async function readProcessDevice(path: string): Promise<WgDump> {
  return parseUapi(await answerOf(path))
}

function answerOf(path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(path)
    const chunks: Buffer[] = []
    let bytes = 0
    const end = (error?: Error) => {
      clearTimeout(timer)
      socket.destroy()
      if (error === undefined) resolve(Buffer.concat(chunks).toString('latin1'))
      else reject(error)
    }
    const timer = setTimeout(() => end(new Error('wireguard-go did not answer in time')), DEADLINE_MS)
    socket.on('error', end)
    socket.on('close', () => end(new Error('wireguard-go closed its socket')))
    socket.on('data', (chunk) => {
      chunks.push(chunk)
      bytes += chunk.length
      if (bytes > ANSWER_BYTES_MAX) end(new Error('wireguard-go answered too much'))
      else if (chunks.slice(-2).map(String).join('').endsWith('\n\n')) end()
    })
    socket.write('get=1\n\n')
  })
}

/** Parses the answer: lines `key=value`, in which `public_key` begins a peer. Errors name no value. */
function parseUapi(text: string): WgDump {
  const device = new Map<string, string>()
  const peers: [Map<string, string>, string[]][] = []
  for (const line of text.split('\n')) {
    const at = line.indexOf('=')
    if (at < 0) continue
    const [name, value] = [line.slice(0, at), line.slice(at + 1)]
    if (name === 'public_key') peers.push([new Map(), []])
    const last = peers.at(-1)
    if (name === 'allowed_ip' && last !== undefined) last[1].push(value)
    else (name === 'errno' ? device : (last?.[0] ?? device)).set(name, value)
  }
  if (device.get('errno') !== '0') throw new Error('wireguard-go refused to tell its device')
  const privateKey = device.get('private_key')
  return {
    publicKey: privateKey === undefined ? undefined : publicKeyOf(privateKey),
    listenPort: number(device.get('listen_port')),
    fwmark: number(device.get('fwmark')),
    peers: peers.map(peerOf).sort((a, b) => (a.publicKey < b.publicKey ? -1 : 1))
  }
}

function peerOf([fields, allowedIps]: readonly [ReadonlyMap<string, string>, readonly string[]]): WgPeer {
  const address = fields.get('endpoint')
  return {
    publicKey: base64(fields.get('public_key') ?? ''),
    peerAddress: address === undefined ? undefined : peerAddress(address),
    allowedIps: allowedIps.map(allowedIp).sort(compareCidr),
    lastHandshakeSeconds: number(fields.get('last_handshake_time_sec')),
    rxBytes: number(fields.get('rx_bytes')),
    txBytes: number(fields.get('tx_bytes')),
    keepaliveSeconds: number(fields.get('persistent_keepalive_interval'))
  }
}

/** The number of a line; 0 where the line is missing. */
function number(text: string | undefined): number {
  const value = Number(text ?? 0)
  if (!Number.isSafeInteger(value)) throw new Error('wireguard-go told something that is no number')
  return value
}

function base64(hex: string): WireguardKey {
  if (!/^[0-9a-f]{64}$/.test(hex)) throw new Error('wireguard-go told something that is no key')
  return Buffer.from(hex, 'hex').toString('base64') as WireguardKey
}

// PKCS #8 of an X25519 key (RFC 8410, section 7), before its 32 bytes.
const X25519_PKCS8 = Buffer.from('302e020100300506032b656e04220420', 'hex')

/** The last private key that was read, and its public key: the device is read each 500 ms and keeps its key for months. */
let latest: { readonly hex: string; readonly publicKey: WireguardKey } | undefined

/** Returns the public key; undefined for the key of zeros, which stands for no key. */
function publicKeyOf(hex: string): WireguardKey | undefined {
  if (latest?.hex === hex) return latest.publicKey
  base64(hex)
  if (/^0+$/.test(hex)) return undefined
  latest = { hex, publicKey: computedFrom(hex) }
  return latest.publicKey
}

function computedFrom(hex: string): WireguardKey {
  const key = createPrivateKey({
    key: Buffer.concat([X25519_PKCS8, Buffer.from(hex, 'hex')]),
    format: 'der',
    type: 'pkcs8'
  })
  const { x = '' } = createPublicKey(key).export({ format: 'jwk' })
  return Buffer.from(x, 'base64url').toString('base64') as WireguardKey
}
