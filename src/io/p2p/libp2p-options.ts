// The configuration of libp2p: TCP, noise and yamux, with every limit of limits.ts that libp2p itself keeps.
// transport.ts starts libp2p with it.
import { noise } from '@chainsafe/libp2p-noise'
import { tcp } from '@libp2p/tcp'
import type { Libp2pOptions } from 'libp2p'
import { boundedYamux } from './bounded-yamux.ts'
import type { TransportLimits } from './limits.ts'
import type { PrivateKey } from './private-key.ts'

/** The first window of the yamux specification. The peer relies on it, so it cannot be smaller. */
const YAMUX_WINDOW_BYTES = 256 * 1024

/** What the configuration depends on. */
interface Libp2pSettings {
  readonly limits: TransportLimits
  readonly privateKey: PrivateKey
  /** Multiaddrs to listen on. */
  readonly listen: readonly string[]
  readonly gater: NonNullable<Libp2pOptions['connectionGater']>
}

/** Returns the options of createLibp2p. */
export function libp2pOptions({ limits, privateKey, listen, gater }: Libp2pSettings): Libp2pOptions & {
  start: false
} {
  return {
    start: false,
    privateKey,
    addresses: { listen: [...listen] },
    transports: [
      tcp({
        // The mesh has its own pings. libp2p's default would close a quiet but working connection after 2 minutes.
        inboundSocketInactivityTimeout: 0,
        outboundSocketInactivityTimeout: 0
      })
    ],
    connectionEncrypters: [noise()],
    streamMuxers: [
      boundedYamux({
        frameBytesMax: limits.muxerFrameBytesMax,
        init: {
          // At most five streams are useful: one in use and two parked (neighbours.ts), and two of datagrams
          // (datagrams.ts). The bound keeps a peer from using up memory with many streams.
          maxInboundStreams: 8,
          maxOutboundStreams: 8,
          maxEarlyStreams: 4,
          // The window starts at 256 KiB and grows as long as it is used up within four round trips.
          streamOptions: {
            initialStreamWindowSize: YAMUX_WINDOW_BYTES,
            maxStreamWindowSize: Math.max(YAMUX_WINDOW_BYTES, limits.windowBytesMax)
          }
        }
      })
    ],
    // Off: it aborts a connection after one failed ping and opens a stream for each. Neighbours ping in their frames.
    connectionMonitor: { enabled: false, abortConnectionOnPingFailure: false },
    connectionManager: {
      // The defaults (300, 5 per second, 10) are too low for a site behind one NAT that returns after an outage.
      maxConnections: limits.connectionsMax,
      inboundConnectionThreshold: limits.inboundPerSecondMax,
      // Strangers are bounded by inbound-budget.ts, which ends an old one for a new one; libp2p would refuse the new one.
      maxIncomingPendingConnections: 2 * limits.unauthenticatedMax + limits.arrivingMembersMax,
      inboundUpgradeTimeout: limits.authenticationMs,
      maxParallelDials: limits.dialsMax,
      maxPeerAddrsToDial: limits.addressesPerTargetMax,
      addressDialTimeout: limits.addressDialMs,
      // Keeps the caller's order, which is best first; libp2p's default prefers public addresses.
      addressSorter: () => 0,
      // libp2p's reconnects are off, because they stop after five retries; redial.ts dials again without end.
      reconnectRetries: 0
    },
    connectionGater: gater
  }
}
