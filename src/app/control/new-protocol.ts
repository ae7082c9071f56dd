// Makes the replication protocol of this agent from its identity, its store and its members. control.ts runs it.
import type { Crypto } from '../../core/model/crypto.ts'
import { publicKeyOf } from '../../core/model/identity.ts'
import type { Origin } from '../../core/model/values.ts'
import { createProtocol, type Protocol } from '../../core/replication/protocol.ts'
import type { MeshTrust } from './mesh-trust.ts'
import type { LoadedReplica, Store } from '../../io/store/store.ts'
import { epochFloor } from './epoch-floor.ts'

interface NewProtocolOptions {
  readonly origin: Origin
  /** Ed25519 seed of this agent's key, 32 bytes. */
  readonly nodeSeed: Uint8Array
  readonly crypto: Crypto
  readonly store: Pick<Store, 'counters'>
  readonly trust: MeshTrust
}

/** Returns a protocol without records; `stored` decides its first epoch. */
export function newProtocol(options: NewProtocolOptions, stored: LoadedReplica): Protocol {
  const { origin, nodeSeed, crypto, store, trust } = options
  const { members } = trust
  return createProtocol({
    self: origin,
    selfSeed: nodeSeed,
    meshId: members.meshId,
    crypto,
    admission: {
      isAdmitted: (origin) => members.isAdmitted(origin),
      admit(origin, credential) {
        const verdict = trust.admit(origin, credential)
        if (verdict.kind === 'admitted') return verdict
        const { code } = verdict
        return {
          ...verdict,
          ...(code === 'malformed' ? { isForged: true } : {}),
          ...(code === 'unknown' ? { isEarly: true } : {})
        }
      },
      credentialOf: (origin) => members.credentialOf(origin),
      clusterOf: (origin) => members.agentOf(origin)?.clusterKey,
      publicKeyOf
    },
    incarnation: Math.max(0, Date.now()),
    epochFloor: epochFloor(origin, stored, store.counters()?.epoch)
  })
}
