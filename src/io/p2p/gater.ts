// Decides which connections libp2p opens and accepts: sockets of strangers within their budget (inbound-budget.ts), and
// no connection with a peer that is banned. transport.ts gives the result to libp2p.
import { setTimeout } from 'node:timers/promises'
import type { Libp2pOptions } from 'libp2p'
import type { Origin } from '../../core/model/values.ts'
import { hostOf, socketKey } from './addresses.ts'
import type { InboundBudget } from './inbound-budget.ts'
import { originOf } from './origin.ts'

interface GaterOptions {
  readonly budget: InboundBudget
  readonly isBanned: (peer: Origin) => boolean
  /** Returns whether this agent knows the peer as a member. */
  readonly isMember: (peer: Origin) => boolean
  readonly log: (event: string, fields: object) => void
}

/** Returns the gater of one transport. */
export function createGater(options: GaterOptions): NonNullable<Libp2pOptions['connectionGater']> {
  const { budget, isBanned, isMember, log } = options
  return {
    // The caller decides which addresses are dialled. Private ones, which most clusters have, must not be denied.
    denyDialMultiaddr: () => false,
    denyInboundConnection: async (socket) => {
      const host = hostOf(socket.remoteAddr)
      budget.admit({
        key: socketKey(socket.remoteAddr),
        host,
        abort: (error) => socket.abort(error),
        onClose: (listener) => socket.addEventListener('close', listener, { once: true })
      })
      const delayMs = budget.delayMs(host)
      if (delayMs > 0) await setTimeout(delayMs)
      return false
    },
    // noise has proved the PeerId by now.
    denyInboundEncryptedConnection: (peerId, socket) => {
      const peer = originOf(peerId)
      const address = socketKey(socket.remoteAddr)
      if (peer !== undefined && isBanned(peer)) {
        budget.slow(hostOf(socket.remoteAddr))
        log('inbound refused', { peer, address, reason: 'banned' })
        return true
      }
      if (budget.proved(address, peer !== undefined && isMember(peer))) return false
      log('inbound refused', { peer, address, reason: 'too many members connect at one time' })
      return true
    }
  }
}
