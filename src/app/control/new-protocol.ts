// Makes the replication protocol of this agent from its identity, its store and its trust store. control.ts runs it.
import type { Crypto } from '../../core/model/crypto.ts'
import { publicKeyOf } from '../../core/model/identity.ts'
import type { Origin } from '../../core/model/values.ts'
import { createProtocol, type Protocol } from '../../core/replication/protocol.ts'
import type { TrustStore } from '../../core/trust/trust-store.ts'
import type { LoadedReplica, Store } from '../../io/store/store.ts'
import { epochFloor } from './epoch-floor.ts'

interface NewProtocolOptions {
  readonly origin: Origin
  /** Ed25519 seed of this agent's key, 32 bytes. */
  readonly nodeSeed: Uint8Array
  readonly meshId: Uint8Array
  readonly crypto: Crypto
  readonly store: Pick<Store, 'counters'>
  readonly trustStore: TrustStore
}

/** Returns a protocol without records; `stored` decides its first epoch. */
export function newProtocol(options: NewProtocolOptions, stored: LoadedReplica): Protocol {
  const { origin, nodeSeed, meshId, crypto, store, trustStore } = options
  return createProtocol({
    self: origin,
    selfSeed: nodeSeed,
    meshId,
    crypto,
    admission: {
      isAdmitted: (origin) => trustStore.isAdmitted(origin),
      admit: (origin, chain) => trustStore.admit(origin, chain),
      chainOf: (origin) => trustStore.chainOf(origin),
      clusterOf: (origin) => trustStore.clusterOf(origin),
      publicKeyOf
    },
    incarnation: Math.max(0, Date.now()),
    epochFloor: epochFloor(origin, stored, store.counters()?.epoch)
  })
}
