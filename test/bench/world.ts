// What agents have on their disks when they start: the trust of a new member, or, of a mesh whose agents all went down,
// everything of everyone.
import { existsSync } from 'node:fs'
import { createProtocol, type Persist } from '../../src/core/replication/protocol.ts'
import type { Admission } from '../../src/core/trust/admission.ts'
import { keyOf, type ClusterName, type Origin } from '../../src/core/model/values.ts'
import { publicKeyOf } from '../../src/core/model/identity.ts'
import type { Crypto } from '../../src/core/model/crypto.ts'
import { createMembers, type Members } from '../../src/core/trust/members/members.ts'
import { meshRoots } from '../../src/core/trust/set/mesh-roots.ts'
import { createCrypto } from '../../src/io/crypto/crypto.ts'
import { openStore, type Store } from '../../src/io/store/store.ts'
import { rememberingCrypto, type AgentSpec } from './agents.ts'
import { basics, bytes, marker } from './values.ts'

/** One origin as it was stored; byte strings are base64. */
export interface WorldOrigin {
  readonly origin: Origin
  readonly head: string
  readonly credential: string
  readonly records: readonly { readonly key: string; readonly seq: number; readonly value: string }[]
}

/** All agents of a mesh, and what each had stored of every other. */
export interface World {
  readonly specs: readonly AgentSpec[]
  readonly origins: readonly WorldOrigin[]
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

export function toWorldOrigin({ origin, head, credential, operations }: Persist): WorldOrigin {
  return {
    origin,
    head: base64(head),
    credential: base64(credential ?? new Uint8Array()),
    records: operations.map(({ key, seq, value }) => ({ key, seq, value: base64(value ?? new Uint8Array()) }))
  }
}

/** A folder to start an agent from. */
export async function storeWorld(
  specs: readonly AgentSpec[],
  world: readonly Persist[],
  folder: string
): Promise<void> {
  const store = await openStore({ folder, now: Date.now })
  for (const state of world) await store.persist(state, { sync: false })
  await saveTrust(store, specs)
  await store.close()
}

/** The store of an agent. A new one holds what the agent learnt when it joined: the mesh's founder, and its own cluster. */
export async function openStoreOf(spec: AgentSpec): Promise<Store> {
  const options = { folder: spec.folder, now: Date.now }
  if (!existsSync(spec.folder)) {
    const store = await openStore(options)
    await saveTrust(store, [spec])
    await store.close()
  }
  return openStore(options)
}

async function saveTrust(store: Store, specs: readonly AgentSpec[]): Promise<void> {
  const { set } = membersOf(rememberingCrypto(), specs)
  await store.saveTrust(
    Array.from(set.ids(), (id) => {
      const item = set.itemOf(id)
      if (item === undefined) throw new Error(`no item of ${id}`)
      return { id, item }
    })
  )
}

/** The members that these agents are, with the founder's cluster; all of one mesh. */
export function membersOf(crypto: Crypto, specs: readonly AgentSpec[]): Members {
  const [first] = specs
  if (first === undefined) throw new Error('a mesh has at least one agent')
  const members = createMembers({
    crypto,
    roots: rootsOf(crypto, first),
    owners: new Map(),
    generations: new Map()
  })
  const items = [first.founder, ...specs.map(({ credential }) => credential)].map((item) => {
    const opened = members.set.open(bytes(item))
    if (opened.kind === 'refused') throw new Error(opened.reason)
    return opened
  })
  members.addItems(items)
  for (const { origin, credential } of specs) members.admit(origin, bytes(credential))
  return members
}

/** The options of a control plane that say who the agent is. */
export function identityOf(crypto: Crypto, spec: AgentSpec) {
  return {
    nodeSeed: bytes(spec.seed),
    roots: rootsOf(crypto, spec),
    cluster: spec.cluster as ClusterName,
    clusterSeed: bytes(spec.clusterSeed),
    shows: { kind: 'member', credential: bytes(spec.credential) } as const,
    underlayFault: () => Promise.resolve(undefined),
    onAdmitted: () => Promise.reject(new Error('it was admitted before'))
  }
}

function rootsOf(crypto: Crypto, { k, rootKeys }: AgentSpec) {
  return meshRoots(crypto, k, rootKeys.map(bytes))
}

function ownOnly(spec: AgentSpec): Admission {
  return {
    isAdmitted: (origin) => origin === spec.origin,
    clusterOf: () => undefined,
    admit: () => ({ kind: 'refused', reason: 'nobody else' }),
    credentialOf: (origin) => (origin === spec.origin ? bytes(spec.credential) : undefined),
    publicKeyOf
  }
}

function base64(octets: Uint8Array): string {
  return Buffer.from(octets).toString('base64')
}
