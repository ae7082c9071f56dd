// Tries whether UDP gets through to a carried peer without disturbing the tunnel. One datagram of WireGuard's data leaves
// by UDP instead of the carrier, from a socket of this agent. If it arrives, WireGuard at the other end answers to where it
// came from (roaming, whitepaper section 2.1), so the answer comes to this socket. If none comes in time, the same datagram
// goes by the carrier: the replay window of WireGuard takes it although it is late, and drops it if it had arrived before.
// So a try costs no packet.
// Bounds: one datagram to at most ADDRESSES_MAX addresses that the member publishes, which is less than a handshake of
// WireGuard costs; app/paths makes a try every 10 s at most.
import { createSocket, type Socket } from 'node:dgram'
import { parseIp } from '../../core/model/cidr.ts'
import { hostOfPeerAddress } from '../../core/model/outer-address.ts'
import type { Ip, PeerAddress } from '../../core/model/values.ts'

const ADDRESSES_MAX = 4

interface DirectTryOptions {
  /** The addresses of WireGuard at the other end, the best first. */
  readonly addresses: readonly PeerAddress[]
  readonly datagram: Uint8Array
  /** Milliseconds to wait for an answer. */
  readonly waitMs: number
  /** Whether a datagram can be the answer of the peer's WireGuard. Others are ignored. */
  readonly isAnswer: (datagram: Uint8Array) => boolean
  /** Called once with the address that answered and the answer, or with undefined when none came in time. */
  readonly onEnd: (
    answer: { readonly address: PeerAddress; readonly datagram: Uint8Array } | undefined
  ) => void
}

/** Starts a try. Returns a function that ends it at once, without a call of `onEnd`. */
export function tryDirect({ addresses, datagram, waitMs, isAnswer, onEnd }: DirectTryOptions): () => void {
  const targets = new Map<string, { readonly address: PeerAddress; readonly ip: Ip; readonly port: number }>(
    addresses.slice(0, ADDRESSES_MAX).flatMap((address) => {
      const ip = parseIp(hostOfPeerAddress(address))
      const port = Number(/:(\d+)$/.exec(address)?.[1])
      return ip === undefined ? [] : [[`${ip} ${port}`, { address, ip, port }] as const]
    })
  )
  const sockets = new Map<4 | 6, Socket>()
  const close = () => {
    clearTimeout(timer)
    for (const socket of sockets.values()) socket.close()
    sockets.clear()
  }
  const end: typeof onEnd = (answer) => {
    close()
    onEnd(answer)
  }
  const timer = setTimeout(() => end(undefined), waitMs)
  for (const { ip, port } of targets.values()) {
    const family = ip.includes(':') ? 6 : 4
    const socket = sockets.get(family) ?? createSocket(`udp${family}`)
    if (!sockets.has(family)) {
      sockets.set(family, socket)
      // An error of one address, such as an unreachable network, says nothing about the others.
      socket.on('error', () => undefined)
      socket.on('message', (received, from) => {
        const target = targets.get(`${parseIp(from.address)} ${from.port}`)
        if (target !== undefined && sockets.size > 0 && isAnswer(received))
          end({ address: target.address, datagram: received })
      })
    }
    socket.send(datagram, port, ip, () => undefined)
  }
  return close
}
