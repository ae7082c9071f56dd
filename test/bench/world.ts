// What the agents of a mesh had on their disks when all of them went down: everything of everyone.
import { createProtocol, type Persist } from '../../src/core/replication/protocol.ts'
import type { Admission } from '../../src/core/trust/admission.ts'
import { keyOf, type Origin } from '../../src/core/model/values.ts'
import { publicKeyOf } from '../../src/core/model/identity.ts'
import { createCrypto } from '../../src/io/crypto/crypto.ts'
import { openStore } from '../../src/io/store/store.ts'
import type { AgentSpec } from './agents.ts'
import { basics, bytes, marker } from './values.ts'

/** One origin as it was stored; byte strings are base64. */
export interface WorldOrigin {
  readonly origin: Origin
  readonly head: string
  readonly chain: string
  readonly records: readonly { readonly key: string; readonly seq: number; readonly value: string }[]
}

/** What each of them had published: itself, its cluster, and a service. */
export function worldOf(specs: readonly AgentSpec[]): readonly Persist[] {
  const crypto = createCrypto()
  return specs.map((spec) => {
    const protocol = createProtocol({
      self: spec.origin,
      selfSeed: bytes(spec.seed),
      meshId: bytes(spec.meshId),
      crypto,
      admission: ownOnly(spec)
    })
    const service = marker(spec, 0)
    protocol.publish([...basics(spec, []), { key: keyOf(service), value: service }], 0)
    const whole = protocol.whole(spec.origin)
    if (whole === undefined) throw new Error('nothing was published')
    return whole
  })
}

export function toWorldOrigin({ origin, head, chain, operations }: Persist): WorldOrigin {
  return {
    origin,
    head: base64(head),
    chain: base64(chain ?? new Uint8Array()),
    records: operations.map(({ key, seq, value }) => ({ key, seq, value: base64(value ?? new Uint8Array()) }))
  }
}

/** A folder to start an agent from. */
export async function storeWorld(world: readonly Persist[], folder: string): Promise<void> {
  const store = await openStore({ folder, now: Date.now })
  for (const state of world) await store.persist(state, { sync: false })
  await store.close()
}

function ownOnly(spec: AgentSpec): Admission {
  return {
    isAdmitted: (origin) => origin === spec.origin,
    clusterOf: () => undefined,
    admit: () => ({ kind: 'refused', reason: 'nobody else' }),
    chainOf: (origin) => (origin === spec.origin ? bytes(spec.chain) : undefined),
    publicKeyOf
  }
}

function base64(octets: Uint8Array): string {
  return Buffer.from(octets).toString('base64')
}
