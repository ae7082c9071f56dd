// Decides which connections libp2p opens and accepts: sockets of strangers within their budget (inbound-budget.ts), and
// no connection with a peer that is banned. transport.ts gives the result to libp2p.
import type { Libp2pOptions } from 'libp2p'
import type { Origin } from '../../core/model/values.ts'
import { hostOf, socketKey } from './addresses.ts'
import type { InboundBudget } from './inbound-budget.ts'
import { originOf } from './origin.ts'

interface GaterOptions {
  readonly budget: InboundBudget
  readonly isBanned: (peer: Origin) => boolean
  readonly log: (event: string, fields: object) => void
}

/** Returns the gater of one transport. */
export function createGater(options: GaterOptions): NonNullable<Libp2pOptions['connectionGater']> {
  const { budget, isBanned, log } = options
  return {
    // The caller decides which addresses are dialled. Private ones, which most clusters have, must not be denied.
    denyDialMultiaddr: () => false,
    denyInboundConnection: (socket) => {
      const key = socketKey(socket.remoteAddr)
      const admitted = budget.admit({
        key,
        host: hostOf(socket.remoteAddr),
        abort: (error) => socket.abort(error),
        onClose: (listener) => socket.addEventListener('close', listener, { once: true })
      })
      if (!admitted) log('inbound refused', { address: key, reason: 'too many that are not authenticated' })
      return !admitted
    },
    // noise has proved the PeerId by now.
    denyInboundEncryptedConnection: (peerId, socket) => {
      const peer = originOf(peerId)
      if (peer === undefined || !isBanned(peer)) return false
      log('inbound refused', { peer, address: socketKey(socket.remoteAddr), reason: 'banned' })
      return true
    }
  }
}
